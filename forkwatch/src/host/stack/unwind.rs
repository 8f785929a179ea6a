//! From a thread's innermost call to its first, by the rules that compilers write for exceptions (DWARF 5, 6.4). Where
//! a rule needs what is not known, the walk ends and says so: a wrong frame is worse than none.

use gimli::{
    CfaRule, EhFrame, Encoding, EndianSlice, EvaluationResult, Format, Location, NativeEndian, Piece,
    Register, RegisterRule, UnwindExpression, UnwindTableRow, Value,
};

use super::{
    cfi::Entry,
    elf::{self, Object},
    registers::{self, RETURN_ADDRESS, Registers, STACK_POINTER},
};
use crate::host::{bytes::Bytes, maps::Maps, target_file::Files};
use crate::model::stack::MAX_FRAMES;

/// Operations of one DWARF expression; real ones have less than twenty.
const MAX_OPERATIONS: u32 = 1000;
const ENCODING: Encoding = Encoding { address_size: 8, format: Format::Dwarf32, version: 5 };

type Section<'a> = EhFrame<EndianSlice<'a, NativeEndian>>;

/// What was found on the way.
pub(super) struct Walk {
    /// The objects that code was found in.
    pub(super) objects: Vec<Object>,
    /// Innermost first: an address within each call, and the index of its object.
    pub(super) calls: Vec<(u64, usize)>,
    /// Why it ended before the thread's first function.
    pub(super) missing: Option<String>,
}

/// Follows the calls from these registers on.
pub(super) fn walk(files: &Files, memory: &Bytes, maps: &Maps, mut registers: Registers) -> Walk {
    let mut walk = Walk { objects: Vec::new(), calls: Vec::new(), missing: None };
    // The next instruction of a call that has not returned may be another function's; of one that a signal
    // interrupted it is its own.
    let mut interrupted = true;
    loop {
        if walk.calls.len() == MAX_FRAMES {
            walk.missing = Some(format!("only the innermost {MAX_FRAMES} calls are told"));
            return walk;
        }
        let address = if interrupted { registers.instruction } else { registers.instruction.wrapping_sub(1) };
        let object = match walk.object(memory, maps, address) {
            Ok(object) => object,
            Err(why) => return Walk { missing: Some(why), ..walk },
        };
        walk.calls.push((address, object));
        let next = match walk.objects.get(object) {
            Some(object) => step(files, memory, object, &registers, address),
            None => return walk,
        };
        match next {
            Ok(Some(caller)) => (registers, interrupted) = caller,
            Ok(None) => return walk,
            Err(why) => return Walk { missing: Some(why), ..walk },
        }
    }
}

impl Walk {
    /// The index of the object that an address of code is in.
    fn object(&mut self, memory: &Bytes, maps: &Maps, address: u64) -> Result<usize, String> {
        if let Some(known) = self.objects.iter().position(|object| object.covers(address)) {
            return Ok(known);
        }
        let mapping = maps
            .find(address)
            .filter(|mapping| mapping.executable)
            .ok_or_else(|| format!("{address:#x} is no address of code"))?;
        if mapping.path.is_empty() {
            return Err(format!("{address:#x} lies in code that was made while the program ran"));
        }
        let head = maps
            .head_of(mapping)
            .ok_or_else(|| format!("the beginning of {} is not mapped", elf::name(mapping)))?;
        let object = Object::read(memory, head)?;
        if !object.covers(address) {
            return Err(format!("{address:#x} lies outside of {}", elf::name(head)));
        }
        self.objects.push(object);
        Ok(self.objects.len() - 1)
    }
}

fn step(
    files: &Files,
    memory: &Bytes,
    object: &Object,
    registers: &Registers,
    address: u64,
) -> Result<Option<(Registers, bool)>, String> {
    let here = || format!("{}+{:#x}", elf::name(&object.head), object.file_offset(address).unwrap_or(0));
    let no_rule = || format!("there is no unwind information for {}", here());
    let entry = Entry::covering(files, memory, object, address).ok_or_else(no_rule)?;
    entry
        .with_row(address, |section, function, row| {
            let frame = Frame { memory, section, registers };
            let caller = frame.caller(row).map_err(|why| format!("{why}, at {}", here()))?;
            let Some(mut caller) = caller else { return Ok(None) };
            let interrupted = function.is_signal_trampoline();
            // A signal may run on a stack of its own; without one, callers lie further up.
            if !interrupted
                && caller.stack() <= registers.stack()
                && caller.instruction == registers.instruction
            {
                return Err(format!("the stack does not go on, at {}", here()));
            }
            if !interrupted && caller.stack() < registers.stack() {
                return Err(format!("the stack turns back, at {}", here()));
            }
            caller.instruction = registers::return_address(caller.instruction);
            Ok((caller.instruction != 0).then_some((caller, interrupted)))
        })
        .ok_or_else(no_rule)?
}

/// One call's rules, and what they work on.
struct Frame<'a> {
    memory: &'a Bytes,
    section: &'a Section<'a>,
    registers: &'a Registers,
}

impl Frame<'_> {
    /// The registers of the caller; absent where the rules say that there is none.
    fn caller(&self, row: &UnwindTableRow<usize>) -> Result<Option<Registers>, String> {
        let frame_address = match row.cfa() {
            CfaRule::RegisterAndOffset { register, offset } => {
                self.known(*register)?.wrapping_add_signed(*offset)
            }
            CfaRule::Expression(expression) => self.evaluate(expression, None)?,
        };
        let return_address = match row.register(RETURN_ADDRESS) {
            Some(RegisterRule::Undefined) => return Ok(None),
            Some(rule) => self.value(RETURN_ADDRESS, &rule, frame_address)?,
            None => Some(self.known(RETURN_ADDRESS)?),
        };
        let Some(return_address) = return_address else { return Ok(None) };
        let mut caller = self.registers.preserved(return_address, frame_address);
        for (register, rule) in row.registers() {
            // What cannot be told stays unknown until a rule asks for it.
            caller.set(*register, self.value(*register, rule, frame_address).ok().flatten());
        }
        if caller.get(STACK_POINTER).is_none() {
            return Err("the caller's stack pointer is not known".to_owned());
        }
        Ok(Some(caller))
    }

    fn value(
        &self,
        register: Register,
        rule: &RegisterRule<usize>,
        frame_address: u64,
    ) -> Result<Option<u64>, String> {
        Ok(Some(match rule {
            RegisterRule::Undefined => return Ok(None),
            RegisterRule::SameValue => self.known(register)?,
            RegisterRule::Offset(offset) => self.word(frame_address.wrapping_add_signed(*offset))?,
            RegisterRule::ValOffset(offset) => frame_address.wrapping_add_signed(*offset),
            RegisterRule::Register(other) => self.known(*other)?,
            RegisterRule::Expression(expression) => {
                self.word(self.evaluate(expression, Some(frame_address))?)?
            }
            RegisterRule::ValExpression(expression) => self.evaluate(expression, Some(frame_address))?,
            RegisterRule::Constant(value) => *value,
            RegisterRule::Architectural => return Err("the rule is of an unknown kind".to_owned()),
        }))
    }

    fn evaluate(&self, expression: &UnwindExpression<usize>, initial: Option<u64>) -> Result<u64, String> {
        let odd = |_| "the rule is an expression that makes no sense".to_owned();
        let mut evaluation = expression.get(self.section).map_err(odd)?.evaluation(ENCODING);
        evaluation.set_max_iterations(MAX_OPERATIONS);
        if let Some(initial) = initial {
            evaluation.set_initial_value(initial);
        }
        let mut state = evaluation.evaluate().map_err(odd)?;
        loop {
            state = match state {
                EvaluationResult::Complete => break,
                EvaluationResult::RequiresRegister { register, .. } => {
                    evaluation.resume_with_register(Value::Generic(self.known(register)?)).map_err(odd)?
                }
                EvaluationResult::RequiresMemory { address, size: 8, .. } => {
                    evaluation.resume_with_memory(Value::Generic(self.word(address)?)).map_err(odd)?
                }
                _ => return Err("the rule is an expression of an unknown kind".to_owned()),
            };
        }
        match evaluation.as_result() {
            [Piece { location: Location::Address { address }, .. }] => Ok(*address),
            _ => Err("the rule is an expression without a result".to_owned()),
        }
    }

    fn known(&self, register: Register) -> Result<u64, String> {
        self.registers.get(register).ok_or_else(|| {
            let remedy =
                if self.registers.complete { "" } else { " without stopping the thread (--stacks=full)" };
            format!("the caller depends on {}, which is not known{remedy}", registers::name(register))
        })
    }

    fn word(&self, address: u64) -> Result<u64, String> {
        self.memory.word(address).ok_or_else(|| format!("the stack cannot be read at {address:#x}"))
    }
}
