//! What becomes of a detector where the host hides what it has to see.

use crate::{
    host::sight::{Sight, View},
    model::detector::{Aspect, DetectorState, Wanted},
};

/// What this host hides of that which a detector has to see.
pub(super) fn hides(wants: &[(Aspect, Wanted)], sight: &Sight) -> Option<(DetectorState, String)> {
    let searches = wants.iter().any(|(_, scope)| matches!(scope, Wanted::All | Wanted::AllButInit));
    if searches && sight.hides_processes {
        let why = "/proc does not list every process here: who else holds a pipe or socket stays unknown, and nothing \
                   is reported";
        return Some((DetectorState::Undecided, why.to_owned()));
    }
    let hides = |(aspect, scope): &(Aspect, Wanted)| {
        let others = sight.views.iter().filter(|view| view.tgid != 1);
        let init = || sight.views.iter().find(|view| *scope == Wanted::All && view.tgid == 1);
        hides_aspect(*aspect, *scope, others).or_else(|| init_hides(*aspect, init()?))
    };
    // Of equals the first.
    wants.iter().filter_map(hides).reduce(|most, next| if next.0 > most.0 { next } else { most })
}

/// Init is the one that others hand their sockets to, and is handed none by most.
fn init_hides(aspect: Aspect, init: &View) -> Option<(DetectorState, String)> {
    let (what, why) = (aspect.words(), init.refusal(aspect)?);
    Some((
        DetectorState::Limited,
        format!(
            "{what} of process 1 cannot be seen here ({why}): it may hold any listening socket, so that what is reported \
             is less sure"
        ),
    ))
}

fn hides_aspect<'a>(
    aspect: Aspect,
    scope: Wanted,
    mut views: impl Iterator<Item = &'a View> + Clone,
) -> Option<(DetectorState, String)> {
    let seen = views.clone().any(|view| view.seen.contains(&aspect));
    let own_refused = views.clone().any(|view| view.own && view.refusal(aspect).is_some());
    let (refused, why) = views.find_map(|view| Some((view, view.refusal(aspect)?)))?;
    let what = aspect.words();
    let example = format!("{what} of process {} cannot be seen here ({why})", refused.tgid);
    Some(match scope {
        Wanted::All | Wanted::AllButInit => (
            DetectorState::Undecided,
            format!(
                "{example}: it may hold any pipe or socket, so that nothing can be concluded, nor is reported"
            ),
        ),
        Wanted::Helps => {
            (DetectorState::Limited, format!("{example}: such processes are judged without them"))
        }
        // Of others' processes nothing is seen, and none of one's own was there to be tried.
        Wanted::Each if seen || !own_refused => {
            (DetectorState::Limited, format!("{example}: such processes are not judged"))
        }
        Wanted::Each => (
            DetectorState::Undecided,
            format!("{example}, nor of any other that was tried: nothing is judged, nor reported"),
        ),
    })
}
