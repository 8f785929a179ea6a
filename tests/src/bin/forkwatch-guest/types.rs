//! Kernels that do not describe their types, or wrongly: what forkwatch reads instead of this kernel's.

use std::{fs, iter};

use anyhow::{Context as _, Result, ensure};

use crate::{
    command::{document, ensure_has, run, said},
    doctor::{checks_of, detectors_of},
    runner::Test,
    world::{put, within},
};

pub(crate) const ALL: &[Test] = &[
    ("without type information it refuses", without_types),
    ("damaged type information is refused", with_damaged_types),
    ("a wrong place of the right kind is found by the self-test", with_a_wrong_place),
];

const FOLDER: &str = "/sys/kernel/btf";
const FILE: &str = "/sys/kernel/btf/vmlinux";

/// Checks that nothing is watched, and that both commands say so. Their message has these parts.
fn refused(parts: &[&str]) -> Result<()> {
    ensure_has(&said(&run(&["-d", "1ms"])?, 4)?, parts)?;
    let (code, document) = document(&["doctor", "-o", "json"])?;
    ensure!(code == Some(4), "doctor ended with {code:?}: {document:#}");
    ensure!(
        checks_of(&document).iter().any(|(_, status)| status == "missing"),
        "doctor misses nothing: {document:#}"
    );
    let detectors = detectors_of(&document);
    ensure!(detectors.iter().all(|(_, state)| state == "off"), "{detectors:?}");
    Ok(())
}

fn hide_types() -> Result<()> {
    put("tmpfs", FOLDER, "mode=755")
}

fn without_types() -> Result<()> {
    within(hide_types, || refused(&[FILE, "CONFIG_DEBUG_INFO_BTF=y"]))?;
    // A container without /sys.
    within(|| put("tmpfs", "/sys", "mode=755"), || refused(&[FILE, "/sys mounted"]))
}

/// Numbers that look like chance, and are the same in each run (Knuth's MMIX generator).
fn noise() -> impl Iterator<Item = u8> {
    let next = |state: &u64| {
        Some(state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407))
    };
    iter::successors(Some(1), next).map(|state| state.to_be_bytes()[0])
}

fn with_damaged_types() -> Result<()> {
    /// Of the header.
    const HEADER: usize = 24;
    let whole = fs::read(FILE).context("cannot read this kernel's types")?;
    let (header, body) = whole.split_at_checked(HEADER).context("too short for a header")?;
    let half = |bytes: &[u8]| bytes.iter().copied().take(bytes.len() / 2).collect::<Vec<u8>>();
    let garbage: Vec<u8> = noise().take(whole.len()).collect();
    let swapped = whole.get(..2).unwrap_or_default().iter().rev().chain(whole.iter().skip(2));
    // A page of it in the middle of the types.
    let overwritten = whole
        .iter()
        .enumerate()
        .map(|(at, byte)| if (whole.len() / 4..whole.len() / 4 + 4096).contains(&at) { 0xff } else { *byte });
    let damaged: [(&str, Vec<u8>); 9] = [
        ("empty", Vec::new()),
        ("a part of the header", half(header)),
        ("the header", header.to_vec()),
        ("half of it", half(&whole)),
        ("all but the last byte", whole.iter().copied().take(whole.len() - 1).collect()),
        ("garbage", garbage.clone()),
        (
            "garbage behind the header",
            header.iter().chain(garbage.iter().take(body.len())).copied().collect(),
        ),
        ("the other byte order", swapped.copied().collect()),
        ("a page overwritten", overwritten.collect()),
    ];
    within(hide_types, || {
        for (how, bytes) in damaged {
            fs::write(FILE, bytes).context("cannot write the damaged types")?;
            refused(&["(BTF)"]).with_context(|| how.to_owned())?;
        }
        Ok(())
    })
}

/// Two members of `task_struct` of one type, side by side, change their names: nothing is odd about that but what is
/// read there.
fn with_a_wrong_place() -> Result<()> {
    /// A member is its name, its type and its offset in bits (`struct btf_member` of linux/btf.h).
    const MEMBER: usize = 12;
    let mut types = fs::read(FILE).context("cannot read this kernel's types")?;
    let [one, other] = [name_of(&types, "blocked")?, name_of(&types, "real_blocked")?].map(u32::to_ne_bytes);
    let is_the_pair = |bytes: &[u8]| {
        let (first, second) = bytes.split_at(MEMBER);
        first.starts_with(&one) && second.starts_with(&other) && first.get(4..8) == second.get(4..8)
    };
    let place = types.windows(2 * MEMBER).position(is_the_pair).context("task_struct has no such members")?;
    for (at, name) in [(place, other), (place + MEMBER, one)] {
        types.get_mut(at..at + name.len()).context("it ends there")?.copy_from_slice(&name);
    }
    let swapped = || {
        hide_types()?;
        fs::write(FILE, types).context("cannot write the changed types")
    };
    within(swapped, || refused(&["self-test failed", "SIGUSR1"]))
}

/// Where a name stands in the section of strings.
fn name_of(types: &[u8], name: &str) -> Result<u32> {
    let word = |at: usize| -> Result<usize> {
        let bytes = types.get(at..at + 4).context("too short for a header")?;
        Ok(u32::from_ne_bytes(bytes.try_into()?).try_into()?)
    };
    // Of `struct btf_header`: hdr_len and str_off.
    let strings = types.get(word(4)? + word(16)?..).context("it has no strings")?;
    let wanted = format!("\0{name}\0").into_bytes();
    let before =
        strings.windows(wanted.len()).position(|bytes| bytes == wanted).context("nothing is called so")?;
    Ok(u32::try_from(before + 1)?)
}
