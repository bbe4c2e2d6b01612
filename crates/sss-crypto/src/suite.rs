//! The cipher suites.

/// A cipher suite: the AEAD of packets and the cipher that makes header masks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Suite {
    /// ChaCha20-Poly1305 (RFC 8439), masks by ChaCha20. Fast on every processor.
    ChaCha20Poly1305,
    /// AES-256-GCM (NIST SP 800-38D), masks by AES-256. Fast, and in constant time, on processors with instructions
    /// for it.
    Aes256Gcm,
}

impl Suite {
    /// Returns whether this processor has instructions for AES and for carry-less multiplication: the condition for
    /// offering or choosing [`Suite::Aes256Gcm`] (NEG-7).
    pub fn hardware_aes() -> bool {
        hardware_aes()
    }
}

#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
fn hardware_aes() -> bool {
    std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq")
}

#[cfg(target_arch = "aarch64")]
fn hardware_aes() -> bool {
    // The feature named "aes" includes PMULL, the carry-less multiplication.
    std::arch::is_aarch64_feature_detected!("aes")
}

#[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
fn hardware_aes() -> bool {
    false
}
