//! What can the processor do?

/// Whether AES and the multiplication that Galois/Counter Mode needs are in hardware; in software both are slow, and
/// hard to write without leaking the key through timing.
pub fn has_aes_gcm() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::is_x86_feature_detected!("aes") && std::is_x86_feature_detected!("pclmulqdq");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("aes")
        && std::arch::is_aarch64_feature_detected!("pmull");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    return false;
}
