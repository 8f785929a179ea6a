//! Where lines go.

use std::{
    cell::RefCell,
    io::{self, BufWriter, Write},
    rc::Rc,
};

use super::{event_file::EventFile, standard_output::StandardOutput};

/// Takes lines.
pub trait Destination {
    /// Whether lines go anywhere. Where not, none need be made.
    fn is_open(&self) -> bool {
        true
    }

    /// Appends a line, which has no line break. Says whether it was taken; if not, it is lost, and whoever is responsible
    /// has been told. An error is why nothing can be written any more.
    fn append(&mut self, line: &str) -> io::Result<bool>;

    /// Hands over what has been appended.
    fn flush(&mut self) -> io::Result<()>;
}

impl<W: Write> Destination for BufWriter<W> {
    fn append(&mut self, line: &str) -> io::Result<bool> {
        self.write_all(line.as_bytes())?;
        self.write_all(b"\n")?;
        Ok(true)
    }

    fn flush(&mut self) -> io::Result<()> {
        Write::flush(self)
    }
}

/// Where a service's lines go.
pub enum Lines {
    /// Nowhere.
    Nowhere,
    /// Standard output.
    Stdout(StandardOutput),
    /// A file that is rotated.
    File(EventFile),
}

impl Destination for Lines {
    fn is_open(&self) -> bool {
        !matches!(self, Self::Nowhere)
    }

    fn append(&mut self, line: &str) -> io::Result<bool> {
        match self {
            Self::Nowhere => Ok(true),
            Self::Stdout(output) => output.append(line),
            Self::File(file) => Ok(file.append(line)),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stdout(output) => output.flush(),
            Self::Nowhere | Self::File(_) => Ok(()),
        }
    }
}

/// One that somebody else may exchange while it is in use.
impl<D: Destination> Destination for Rc<RefCell<D>> {
    fn is_open(&self) -> bool {
        self.borrow().is_open()
    }

    fn append(&mut self, line: &str) -> io::Result<bool> {
        self.borrow_mut().append(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.borrow_mut().flush()
    }
}
