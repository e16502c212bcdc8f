//! Text of a lease key, `A.B.C.D-LEN` or `A.B.C.D-LEN&V6ADDR-LEN`: pure.

use super::Subnets;

/// Why the last component of a key is not a lease key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a lease key ({0})")]
pub struct BadKey(pub &'static str);

/// Reads the last component of a key.
///
/// # Errors
/// When it is not exactly the text that [`format`] writes for canonical subnets.
pub fn parse(_text: &str) -> Result<Subnets, BadKey> {
    Err(BadKey("stub"))
}

/// Writes the last component of the key for `subnets`.
pub fn format(_subnets: &Subnets) -> String {
    String::new()
}
