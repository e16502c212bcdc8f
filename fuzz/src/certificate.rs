//! Any bytes as PEM, and as what PEM holds: as an authority, a certificate and a key.

use node_setup::check::certs::{authority, client};

const NOW: u64 = 1_700_000_000;

pub fn run(bytes: &[u8]) {
    for pem in [
        bytes.to_vec(),
        pem("CERTIFICATE", bytes),
        pem("PRIVATE KEY", bytes),
    ] {
        if let Ok(authority) = authority(&pem, NOW) {
            let _ = client(&pem, Some(&pem), &authority, NOW);
        }
        let _ = client(&pem, Some(&pem), &[], NOW);
    }
}

fn pem(label: &str, der: &[u8]) -> Vec<u8> {
    let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = format!("-----BEGIN {label}-----\n");
    for chunk in der.chunks(3) {
        let bits = chunk
            .iter()
            .fold(0, |bits: u32, byte| bits << 8 | u32::from(*byte))
            << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let digit = digits[(bits >> (18 - 6 * place)) as usize & 63] as char;
            text.push(if place <= chunk.len() { digit } else { '=' });
        }
    }
    (text + &format!("\n-----END {label}-----\n")).into_bytes()
}
