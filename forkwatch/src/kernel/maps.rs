//! Maps of the loaded object, by name.

use aya::{
    Ebpf,
    maps::{Map, MapError},
};

use super::error::KernelError;

/// Takes a map out of the object, as what it is to be used for.
pub(super) fn take<T: TryFrom<Map, Error = MapError>>(
    ebpf: &mut Ebpf,
    name: &'static str,
) -> Result<T, KernelError> {
    let missing = MapError::InvalidName { name: name.to_owned() };
    ebpf.take_map(name).ok_or(missing).and_then(T::try_from).map_err(map_error(name))
}

/// What to say where a map cannot be used.
pub(super) fn map_error(map: &'static str) -> impl Fn(MapError) -> KernelError {
    move |error| KernelError::Map { map, error: Box::new(error) }
}
