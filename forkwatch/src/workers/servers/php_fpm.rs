//! php-fpm: `php-fpm: master process (/etc/php/8.2/fpm/php-fpm.conf)` and `php-fpm: pool www`.

use super::{
    Part, Role, Rule, Signs,
    command_line::{Setting, number},
};

pub(super) static RULE: Rule = Rule {
    part,
    version,
    settings,
    ..Rule::new("php-fpm", |signs| signs.runs(&["php-fpm"]) || signs.name.starts_with("php-fpm"))
};

const MASTER: &str = "php-fpm: master process ";

fn part(signs: &Signs<'_>) -> Option<Part> {
    if let Some(pool) = signs.after("php-fpm: pool ") {
        return Some(Part::titled(Role::Worker, &format!("pool {pool}")));
    }
    signs.after(MASTER).map(|_| Part::of(Role::Master))
}

fn version(signs: &Signs<'_>) -> Option<String> {
    number(signs.executable()?.strip_prefix("php-fpm")?)
}

fn settings(signs: &Signs<'_>) -> Vec<Setting> {
    let file = signs.after(MASTER).map(|file| file.trim_matches(['(', ')']).to_owned());
    file.map(|value| Setting { name: "configuration", value }).into_iter().collect()
}
