//! What a reader may do beside looking.

/// What a reader may do. One that may do more is a process of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum May {
    /// Nothing but looking.
    Look,
    /// Stop threads for their registers.
    Stop,
    /// Copy what lies in pipes.
    Listen,
}

impl May {
    /// Stop threads, or not.
    pub(super) const fn stop(may: bool) -> Self {
        if may { Self::Stop } else { Self::Look }
    }

    /// As it stands in a packet.
    pub(super) const fn number(self) -> u32 {
        match self {
            Self::Look => 0,
            Self::Stop => 1,
            Self::Listen => 2,
        }
    }

    /// What a packet says. Who says nothing known may only look.
    pub(super) const fn of(number: u32) -> Self {
        match number {
            1 => Self::Stop,
            2 => Self::Listen,
            _ => Self::Look,
        }
    }
}
