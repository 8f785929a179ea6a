//! By which way a client came, which decides what it is told.

/// By which way a client came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Via {
    /// An address of this host that others cannot reach.
    Loopback,
    /// An address that others may reach; whether the client has shown a certificate of those who are trusted.
    Network { is_certified: bool },
    /// The local socket: who it is, and may ask.
    Local { uid: u32 },
}

impl Via {
    /// The same, of a client whose certificate was looked at.
    pub(super) fn certified(self, is_certified: bool) -> Self {
        match self {
            Self::Network { .. } => Self::Network { is_certified },
            other => other,
        }
    }
}
