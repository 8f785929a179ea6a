//! A blob for aya that names only what forkwatch attaches to.

use super::record::RECORD_LEN;
use super::{Btf, BtfError, HEADER_LEN, Kind, MAGIC, VERSION};

impl Btf<'_> {
    /// Type information with just these tracepoints and functions, under the ids that the kernel knows them by.
    ///
    /// To load a program for the tracepoint `sched_process_fork`, aya looks the id of the typedef
    /// `btf_trace_sched_process_fork` up, and that of the function for fentry or fexit; it needs nothing else of the
    /// kernel's types. The ids between are taken by pointers to `void`, which are as short as a type can be. The
    /// blob serves that look-up alone: what it names is of type `void`.
    pub fn attach_stub(&self, tracepoints: &[&str], functions: &[&str]) -> Result<Vec<u8>, BtfError> {
        let typedefs = tracepoints.iter().map(|name| (Kind::Typedef, format!("btf_trace_{name}")));
        let functions = functions.iter().map(|&name| (Kind::Function, name.to_owned()));
        let names: Vec<_> = typedefs.chain(functions).collect();
        let asked: Vec<_> = names.iter().map(|(kind, name)| (*kind, name.as_str())).collect();
        let found = self.find_all(&asked);
        let mut wanted = Vec::new();
        for ((kind, name), id) in names.into_iter().zip(found) {
            match id {
                Some(id) => wanted.push((id.number(), kind, name)),
                None => return Err(BtfError::Missing { kind, name }),
            }
        }
        wanted.sort_unstable_by_key(|&(id, ..)| id);
        wanted.dedup_by_key(|&mut (id, ..)| id);

        let mut types = Vec::new();
        let mut filler = Vec::new();
        push_type(&mut filler, 0, Kind::Pointer);
        let mut strings = vec![0];
        for (id, kind, name) in wanted {
            let missing = id - 1 - length(&types) / RECORD_LEN;
            types.extend(filler.repeat(missing as usize));
            push_type(&mut types, length(&strings), kind);
            strings.extend(name.into_bytes());
            strings.push(0);
        }
        let mut blob = Vec::with_capacity(HEADER_LEN as usize + types.len() + strings.len());
        blob.extend(MAGIC.to_ne_bytes());
        blob.extend([VERSION, 0]);
        push_words(&mut blob, [HEADER_LEN, 0, length(&types), length(&types), length(&strings)]);
        blob.append(&mut types);
        blob.append(&mut strings);
        Ok(blob)
    }
}

/// Appends a type that refers to `void`.
fn push_type(types: &mut Vec<u8>, name: u32, kind: Kind) {
    push_words(types, [name, (kind as u32) << 24, 0]);
}

fn push_words<const N: usize>(bytes: &mut Vec<u8>, words: [u32; N]) {
    for word in words {
        bytes.extend(word.to_ne_bytes());
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "what a stub holds is a part of a blob that counts in 32 bits"
)]
const fn length(bytes: &[u8]) -> u32 {
    bytes.len() as u32
}
