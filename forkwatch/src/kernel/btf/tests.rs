use std::path::Path;

use proptest::prelude::*;

use super::synthetic::{Builder, VOID, blob};
use super::*;

/// The offset and size of a member, or the error's text.
fn place(blob: &[u8], structure: &str, path: &str) -> Result<Option<(u32, Option<u32>)>, String> {
    let btf = Btf::parse(blob).unwrap();
    let id = btf.find(Kind::Struct, structure).unwrap();
    let member = btf.member(id, path).map_err(|error| error.to_string())?;
    Ok(member.map(|member| (member.offset, member.definition.size)))
}

#[test]
fn members_of_anonymous_structs_and_unions_are_the_structs_own() {
    let mut builder = Builder::new();
    let int = builder.int("int", 4);
    let pair = builder.structure("", 8, &[("x", int, 0), ("y", int, 4)]);
    let pair = builder.wrap(Kind::Const, "", pair);
    let choice = builder.composite(Kind::Union, "", 8, &[("single", int, 0), ("", pair, 0)]);
    let named = builder.structure("named", 4, &[("hidden", int, 0)]);
    builder.structure("outer", 20, &[("a", int, 0), ("", choice, 8), ("inner", named, 16)]);
    let blob = builder.blob();
    assert_eq!(place(&blob, "outer", "a"), Ok(Some((0, Some(4)))));
    assert_eq!(place(&blob, "outer", "single"), Ok(Some((8, Some(4)))));
    assert_eq!(place(&blob, "outer", "y"), Ok(Some((12, Some(4)))));
    assert_eq!(place(&blob, "outer", "inner.hidden"), Ok(Some((16, Some(4)))));
    for absent in ["hidden", "inner.y", "y.x", "", "inner.", ".a", "b"] {
        assert_eq!(place(&blob, "outer", absent), Ok(None), "{absent:?}");
    }
}

#[test]
fn typedefs_qualifiers_and_tags_are_looked_through() {
    let mut builder = Builder::new();
    let int = builder.int("int", 4);
    let credentials = builder.structure("cred", 4, &[("usage", int, 0)]);
    let tagged = builder.wrap(Kind::TypeTag, "rcu", credentials);
    let tagged = builder.wrap(Kind::Const, "", tagged);
    let pointer = builder.pointer(tagged);
    let pointer = builder.wrap(Kind::Restrict, "", pointer);
    let pointer = builder.typedef("cred_t", pointer);
    let count = builder.typedef("count_t", int);
    let count = builder.wrap(Kind::Volatile, "", count);
    let count = builder.typedef("counter_t", count);
    let holder = builder.structure("holder", 16, &[("count", count, 0), ("cred", pointer, 8)]);
    let blob = builder.blob();
    let btf = Btf::parse(&blob).unwrap();

    let count = btf.member(holder, "count").unwrap().unwrap().definition;
    assert_eq!((count.id, count.kind, count.name, count.size), (int, Kind::Int, &b"int"[..], Some(4)));
    let pointer = btf.member(holder, "cred").unwrap().unwrap().definition;
    assert_eq!((pointer.kind, pointer.size), (Kind::Pointer, Some(8)));
    let target = btf.target(&pointer).unwrap().unwrap();
    assert_eq!((target.id, target.kind, target.name), (credentials, Kind::Struct, &b"cred"[..]));
    assert_eq!(place(&blob, "holder", "cred.usage"), Ok(None), "a pointer is not followed");
}

#[test]
fn arrays_have_the_size_of_all_their_elements() {
    let mut builder = Builder::new();
    let long = builder.int("long", 8);
    let row = builder.array(long, 3);
    let row = builder.typedef("row_t", row);
    let table = builder.array(row, 2);
    let flexible = builder.array(long, 0);
    let huge = builder.array(table, u32::MAX);
    builder.structure("tables", 48, &[("table", table, 0), ("flexible", flexible, 48)]);
    builder.structure("huge", 48, &[("huge", huge, 0)]);
    let blob = builder.blob();
    assert_eq!(place(&blob, "tables", "table"), Ok(Some((0, Some(48)))));
    assert_eq!(place(&blob, "tables", "flexible"), Ok(Some((48, Some(0)))));
    assert!(place(&blob, "huge", "huge").unwrap_err().contains("is too large"));
    let btf = Btf::parse(&blob).unwrap();
    let table = btf.resolve(table).unwrap().unwrap();
    assert_eq!(btf.target(&table).unwrap().unwrap().size, Some(24));
}

#[test]
fn a_bitfield_is_refused_however_it_is_encoded() {
    let mut builder = Builder::new();
    let int = builder.int("unsigned int", 4);
    let old_style = builder.partial_int("unsigned int", 4, 3);
    let flagged = [("one", int, 1 << 24 | 5), ("aligned", int, 8 << 24 | 8), ("whole", int, 32)];
    builder.composite_bits(Kind::Struct, "flagged", 8, 1, &flagged);
    builder.composite_bits(Kind::Struct, "old", 8, 0, &[("old", old_style, 0), ("odd", int, 3)]);
    let blob = builder.blob();
    for (structure, member) in [("flagged", "one"), ("flagged", "aligned"), ("old", "old"), ("old", "odd")] {
        let error = place(&blob, structure, member).unwrap_err();
        assert_eq!(error, format!("member {member} is a bitfield, which has no offset in bytes"));
    }
    assert_eq!(place(&blob, "flagged", "whole"), Ok(Some((4, Some(4)))));
}

#[test]
fn structures_that_contradict_themselves_are_refused() {
    let mut builder = Builder::new();
    let int = builder.int("int", 4);
    let itself = builder.next();
    builder.structure("endless", 4, &[("", itself, 0), ("", itself, 0)]);
    let one = builder.next();
    let two = TypeId(one.number() + 1);
    builder.typedef("one", two);
    builder.typedef("two", one);
    builder.structure(
        "bad",
        8,
        &[("cycle", one, 0), ("late", int, 6), ("nothing", VOID, 0), ("lost", TypeId(999), 0)],
    );
    let far = builder.structure("far", 4, &[("x", int, u32::MAX / 8)]);
    let far = builder.structure("", 4, &[("", far, u32::MAX / 8)]);
    builder.structure("farther", 4, &[("", far, u32::MAX / 8)]);
    let blob = builder.blob();
    for (structure, member, complaint) in [
        ("endless", "x", "contains itself"),
        ("bad", "cycle", "is defined through too many others"),
        ("bad", "late", "has a member beyond its end"),
        ("bad", "nothing", "has a member of type void"),
        ("bad", "lost", "is referred to but not there"),
        ("farther", "x", "has a member beyond its end"),
    ] {
        let error = place(&blob, structure, member).unwrap_err();
        assert!(error.ends_with(complaint), "{structure}.{member}: {error}");
    }
}

/// One type of each kind, then a struct that is found only if all before it had the right length.
fn all_kinds() -> Vec<u8> {
    let mut builder = Builder::new();
    let int = builder.int("int", 4);
    let pointer = builder.pointer(VOID);
    builder.array(int, 7);
    builder.structure("structure", 16, &[("a", int, 0), ("b", pointer, 8)]);
    builder.composite(Kind::Union, "choice", 8, &[("a", int, 0), ("b", pointer, 0)]);
    builder.add(Kind::Enum, "colour", 2, 4, &[0, 1, 0, 2]);
    builder.wrap(Kind::Forward, "declared", VOID);
    builder.typedef("number", int);
    builder.wrap(Kind::Volatile, "", int);
    builder.wrap(Kind::Const, "", int);
    builder.wrap(Kind::Restrict, "", pointer);
    let prototype = builder.add(Kind::Prototype, "", 2, int.number(), &[0, int.number(), 0, 0]);
    builder.wrap(Kind::Function, "kernel_clone", prototype);
    builder.add(Kind::Variable, "jiffies", 0, int.number(), &[1]);
    builder.add(Kind::Section, ".data", 1, 4, &[14, 0, 4]);
    builder.add(Kind::Float, "double", 0, 8, &[]);
    builder.add(Kind::DeclarationTag, "user", 0, int.number(), &[u32::MAX]);
    builder.wrap(Kind::TypeTag, "rcu", int);
    builder.add(Kind::Enum64, "wide", 1, 8, &[0, 1, 2]);
    builder.typedef("btf_trace_sched_process_fork", pointer);
    builder.structure("last", 4, &[("end", int, 0)]);
    builder.blob()
}

#[test]
fn every_kind_has_its_own_length() {
    let blob = all_kinds();
    assert_eq!(place(&blob, "last", "end"), Ok(Some((0, Some(4)))));
    let btf = Btf::parse(&blob).unwrap();
    let resolved = |kind, name| btf.resolve(btf.find(kind, name).unwrap()).unwrap().unwrap();
    assert_eq!(resolved(Kind::Enum, "colour").size, Some(4));
    assert_eq!(resolved(Kind::Enum64, "wide").size, Some(8));
    assert_eq!(resolved(Kind::Float, "double").size, Some(8));
    assert_eq!(resolved(Kind::Union, "choice").size, Some(8));
    assert_eq!(resolved(Kind::Forward, "declared").size, None);
    assert_eq!(resolved(Kind::Function, "kernel_clone").size, None);
    assert_eq!(btf.resolve(VOID).unwrap(), None);
}

#[test]
fn a_type_is_found_by_its_whole_name_and_kind() {
    let mut builder = Builder::new();
    builder.structure("clone_args", 8, &[]);
    builder.typedef("clone", VOID);
    let first = builder.wrap(Kind::Function, "clone", VOID);
    builder.wrap(Kind::Function, "clone", VOID);
    let blob = builder.blob();
    let btf = Btf::parse(&blob).unwrap();
    assert_eq!(btf.find(Kind::Function, "clone"), Some(first));
    assert_eq!(btf.find(Kind::Struct, "clone"), None);
    assert_eq!(btf.find(Kind::Struct, "lone_args"), None);
    assert!(btf.has_function("clone") && !btf.has_function("clone_args") && !btf.has_function("clon"));
}

/// Why a blob is refused.
fn complaint(blob: &[u8]) -> String {
    Btf::parse(blob).err().expect("the blob must be refused").to_string()
}

#[test]
fn a_blob_cut_anywhere_is_refused() {
    let blob = all_kinds();
    assert!(Btf::parse(&blob).is_ok());
    for length in 0..blob.len() {
        assert!(complaint(&blob[..length]).contains("damaged: it ends inside"), "{length}");
    }
    // The length of the section of types, so that it ends inside the last one.
    let mut cut = blob;
    cut[12] -= 4;
    assert!(complaint(&cut).ends_with("it ends inside one of its types"));
}

#[test]
fn other_formats_are_named() {
    let blob = all_kinds();
    let with = |at: usize, value: u8| {
        let mut blob = blob.clone();
        blob[at] = value;
        complaint(&blob)
    };
    let mut swapped = blob.clone();
    swapped.swap(0, 1);
    assert!(complaint(&swapped).contains("the other byte order"));
    assert!(complaint(b"\x7fELF and so on").contains("it starts with 0x457f"));
    assert!(with(2, 2).contains("version 2"));
    assert!(with(4, 23).ends_with("its header"), "a header shorter than the first version's");
    // The kind of type 1.
    assert!(
        with(24 + 7, 20).contains("type 1 of the kernel's type information (BTF) is encoded as 0x14000000")
    );
    assert!(with(24 + 7, 0).contains("0x00000000"));
    assert!(with(24 + 6, 1).contains("0x01010000"), "a member count of more than 16 bits");
}

#[test]
fn a_header_that_has_grown_is_skipped() {
    let mut blob = all_kinds();
    blob[4] = 32;
    blob.splice(24..24, [0xff; 8]);
    assert_eq!(place(&blob, "last", "end"), Ok(Some((0, Some(4)))));
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let error = read(Path::new("/nonexistent/vmlinux")).err().unwrap().to_string();
    assert!(error.contains("/nonexistent/vmlinux") && error.contains("CONFIG_DEBUG_INFO_BTF"), "{error}");
}

/// What aya finds in a blob.
fn aya_ids(btf: &aya::Btf, tracepoints: &[&str], functions: &[&str]) -> Vec<u32> {
    use aya_obj::btf::BtfKind;
    let typedefs = tracepoints.iter().map(|name| (format!("btf_trace_{name}"), BtfKind::Typedef));
    let functions = functions.iter().map(|&name| (name.to_owned(), BtfKind::Func));
    typedefs.chain(functions).map(|(name, kind)| btf.id_by_type_name_kind(&name, kind).unwrap()).collect()
}

fn aya_parse(blob: &[u8]) -> aya::Btf {
    aya::Btf::parse(blob, aya::Endianness::default()).unwrap()
}

#[test]
fn aya_finds_the_kernels_ids_in_a_stub() {
    let blob = all_kinds();
    let (tracepoints, functions) = (["sched_process_fork"], ["kernel_clone"]);
    let stub = Btf::parse(&blob).unwrap().attach_stub(&tracepoints, &functions).unwrap();
    assert_eq!(aya_ids(&stub, &tracepoints, &functions), [20, 13]);
    assert_eq!(length(&stub), 20, "it ends with the last one wanted");
}

/// The greatest id: the next type gets the one behind it.
fn length(stub: &aya::Btf) -> u32 {
    stub.clone().add_type(aya_obj::btf::BtfType::Unknown) - 1
}

#[test]
fn a_stub_holds_what_is_asked_for_twice_once() {
    let blob = all_kinds();
    let btf = Btf::parse(&blob).unwrap();
    let once = btf.attach_stub(&[], &["kernel_clone"]).unwrap();
    let twice = btf.attach_stub(&[], &["kernel_clone", "kernel_clone"]).unwrap();
    assert_eq!((aya_ids(&twice, &[], &["kernel_clone"]), length(&twice)), (vec![13], length(&once)));
}

#[test]
fn a_stub_without_what_is_wanted_is_refused() {
    let blob = all_kinds();
    let btf = Btf::parse(&blob).unwrap();
    let error = |tracepoints: &[&str], functions: &[&str]| {
        btf.attach_stub(tracepoints, functions).unwrap_err().to_string()
    };
    assert!(error(&["sched_process_exec"], &[]).ends_with("has no typedef btf_trace_sched_process_exec"));
    assert!(error(&["sched_process_fork"], &["do_fork"]).ends_with("has no function do_fork"));
}

#[test]
fn the_running_kernels_stub_has_the_ids_that_aya_finds_in_the_whole() {
    let path = Path::new(KERNEL_BTF);
    if !path.exists() {
        crate::skip::skip(&format!("this kernel has no {KERNEL_BTF}"));
        return;
    }
    let blob = read(path).unwrap();
    let tracepoints = ["sched_process_fork", "sched_process_exec", "sched_process_exit"];
    let functions = ["kernel_clone"];
    let btf = Btf::parse(&blob).unwrap();
    assert!(btf.has_function("kernel_clone"));
    // `pid_t kernel_clone(struct kernel_clone_args *args)`
    assert_eq!(btf.arguments(btf.find(Kind::Function, "kernel_clone").unwrap()).unwrap(), 1);
    let stub = btf.attach_stub(&tracepoints, &functions).unwrap();
    assert_eq!(
        aya_ids(&stub, &tracepoints, &functions),
        aya_ids(&aya_parse(&blob), &tracepoints, &functions)
    );
}

/// Asks everything there is to ask. Nothing may panic, whatever the answers.
fn exercise(blob: &[u8]) {
    let Ok(btf) = Btf::parse(blob) else { return };
    let _ = btf.attach_stub(&["sched_process_fork"], &["kernel_clone"]);
    for id in btf.records().map(|record| record.id).take(64) {
        for path in ["a", "end", "b.a", "x"] {
            let _ = btf.member(id, path);
        }
        if let Ok(Some(definition)) = btf.resolve(id) {
            let _ = btf.target(&definition);
        }
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        exercise(&bytes);
    }

    /// Words of which many are plausible as kinds, counts, ids and offsets.
    #[test]
    fn arbitrary_types_never_panic(
        words in prop::collection::vec(
            prop_oneof![0_u32..20, (1_u32..20, 0_u32..5).prop_map(|(kind, count)| kind << 24 | count), any::<u32>()],
            0..200,
        ),
        strings in prop::collection::vec(prop_oneof![Just(0), Just(b'a'), any::<u8>()], 0..64),
    ) {
        let types: Vec<u8> = words.into_iter().flat_map(u32::to_ne_bytes).collect();
        exercise(&blob(&types, &strings));
    }

    #[test]
    fn a_damaged_blob_never_panics(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        length in any::<prop::sample::Index>(),
        cut in prop::bool::weighted(0.2),
    ) {
        let mut blob = all_kinds();
        for (at, value) in damage {
            let at = at.index(blob.len());
            blob[at] = value;
        }
        if cut {
            blob.truncate(length.index(blob.len()));
        }
        exercise(&blob);
    }
}
