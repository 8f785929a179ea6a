//! What takes apart the bytes of strangers, as functions of bytes alone: for the fuzzer, and for the quick test that runs
//! the same on what the fuzzer has found.

use std::time::Duration;

use super::{
    budget, call::Activity, cgroup::Membership, futex::EndlessWait, image::Image, maps::Maps, mountinfo,
    mounts, stack::fuzz as stack, stat::Stat, status::Status,
};

/// A tenth of what a question may take, so that what ends with its budget is seen to end.
const LIMITS: budget::Limits =
    budget::Limits { bytes: 32 * 1024 * 1024, steps: 40_000, time: Duration::from_secs(2) };
/// What was refused is asked for again by loops that must not go on: by those above them, a few times.
const MAX_REFUSED: u64 = 20_000;

/// Does the work, and fails where that goes on after its budget has been used up.
fn within_budget(work: impl FnOnce()) {
    let spent = budget::measured(LIMITS, work);
    assert!(spent.refused <= MAX_REFUSED, "the work went on with nothing left: {spent:?}");
}

/// Unwinds from an instruction and a stack pointer in the image.
pub(crate) fn unwind(data: &[u8]) {
    within_budget(|| {
        let _ = Image::of(data).map(|image| stack::unwind(&image));
    });
}

/// Names two addresses of the image, by symbols in memory and in a file of the same content.
pub(crate) fn symbols(data: &[u8]) {
    within_budget(|| {
        let _ = Image::of(data).map(|image| stack::symbols(&image));
    });
}

/// Makes a name readable.
pub(crate) fn demangle(data: &[u8]) {
    within_budget(|| stack::demangle(data));
}

/// Finds the frames of a Python's thread in the image: with the number of the thread, of which the image has the rest.
pub(crate) fn python(data: &[u8]) {
    within_budget(|| {
        let _ = Image::of(data).map(|image| stack::script(&image));
    });
}

/// What lies where.
pub(crate) fn maps(data: &[u8]) {
    within_budget(|| {
        let maps = Maps::parse(data);
        let addresses = data.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word));
        for address in addresses.take(16).chain([0, u64::MAX]) {
            let found = maps.find(address);
            let _ = found
                .map(|mapping| (maps.head_of(mapping), maps.follows_file(mapping), mapping.is_same(mapping)));
            let _ = maps.heads_before(address).count();
        }
        let _ = (maps.has_file("libpython"), maps.objects().count(), maps.files().count());
    });
}

/// Cgroups and mounts, which containers name as they like.
pub(crate) fn mounts_and_cgroups(data: &[u8]) {
    within_budget(|| {
        let text = String::from_utf8_lossy(data);
        let _ = Membership::parse(&text);
        let entries: Vec<_> = mountinfo::entries(&text).collect();
        for path in text.lines().take(8) {
            let at = entries.first().map_or(0, |entry| entry.id);
            let _ = (mountinfo::leads_to(path, at, &entries), mountinfo::unescape(path));
        }
        let _ = mounts::parse(&text);
    });
}

/// What `/proc` shows of a task.
pub(crate) fn task(data: &[u8]) {
    within_budget(|| {
        let _ = (Stat::parse(data), Status::parse(data));
        let activity = Activity::parse(data);
        let _ = activity.as_ref().and_then(Activity::call).and_then(EndlessWait::of);
        let _ = activity.map(|activity| activity.name());
    });
}
