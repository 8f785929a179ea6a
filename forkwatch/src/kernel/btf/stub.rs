//! Type information for aya that names only what forkwatch attaches to.

use std::mem::transmute;

use aya_obj::btf::{Btf as AyaBtf, BtfType, Func, FuncLinkage, Typedef};

use super::{Btf, BtfError, Kind};

impl Btf<'_> {
    /// Type information with just these tracepoints and functions, under the ids that the kernel knows them by.
    ///
    /// To load a program for the tracepoint `sched_process_fork`, aya looks the id of the typedef
    /// `btf_trace_sched_process_fork` up, and that of the function for fentry or fexit; it needs nothing else of the
    /// kernel's types. The ids between are taken by types of no kind. Some have numbers of many thousands, so it is
    /// made type by type: aya's parser asks the allocator for each.
    pub fn attach_stub(&self, tracepoints: &[&str], functions: &[&str]) -> Result<AyaBtf, BtfError> {
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

        let mut stub = AyaBtf::new();
        let mut next = 1;
        for (id, kind, name) in wanted {
            for _ in next..id {
                stub.add_type(BtfType::Unknown);
            }
            next = id + 1;
            let name = stub.add_string(&name);
            stub.add_type(match kind {
                Kind::Function => BtfType::Func(Func::new(name, 0, FuncLinkage::Static)),
                _ => BtfType::Typedef(typedef(name)),
            });
        }
        Ok(stub)
    }
}

/// A typedef of `void`. aya has no other way to make one than to parse it.
fn typedef(name: u32) -> Typedef {
    let words: [u32; 3] = [name, (Kind::Typedef as u32) << 24, 0];
    // SAFETY: three words in the order of the kernel (`struct btf_type`, include/uapi/linux/btf.h), of `repr(C)`, and all
    // their values are allowed. Another release of aya-obj that has it otherwise would not find what the tests look for.
    unsafe { transmute(words) }
}
