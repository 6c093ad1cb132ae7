//! The four messages of the WireGuard protocol (WireGuard paper, section 5.4), as fixed layouts over borrowed bytes.
//!
//! All numbers are little-endian. Data messages between two of our own daemons may carry a flag in the first reserved
//! byte; a stock implementation never sees one, because it is used only after both sides asked for it.

/// Length of a handshake initiation.
pub const INITIATION: usize = 148;
/// Length of a handshake response.
pub const RESPONSE: usize = 92;
/// Length of a cookie reply.
pub const COOKIE_REPLY: usize = 64;
/// What precedes the sealed packet in a data message: type, receiver index, counter.
pub const DATA_HEADER: usize = 16;
/// The authenticator behind every sealed packet (RFC 8439, and NIST SP 800-38D alike).
pub const TAG: usize = 16;
/// The two authenticators at the end of both handshake messages.
pub const MACS: usize = 32;
/// What the Noise handshake puts into an initiation: ephemeral key, sealed static key, sealed timestamp.
pub const NOISE_INITIATION: usize = 32 + 48 + 28;
/// What the Noise handshake puts into a response: ephemeral key, sealed nothing.
pub const NOISE_RESPONSE: usize = 32 + 16;

/// Which AEAD seals a data message: the second byte of the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cipher {
    /// WireGuard's own (RFC 8439).
    ChaCha20Poly1305,
    /// AES-256 in Galois/Counter Mode, between two of our own daemons only.
    Aes256Gcm,
}

/// A message, told apart by type and length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// Type 1.
    Initiation {
        /// The index under which the sender wants to be answered.
        sender: u32,
        /// For the Noise handshake.
        noise: &'a [u8; NOISE_INITIATION],
    },
    /// Type 2.
    Response {
        /// The sender's index for the new session.
        sender: u32,
        /// The index of the initiation that is answered.
        receiver: u32,
        /// For the Noise handshake.
        noise: &'a [u8; NOISE_RESPONSE],
    },
    /// Type 3.
    CookieReply {
        /// The index of the message that was not answered.
        receiver: u32,
        /// XChaCha20's.
        nonce: &'a [u8; 24],
        /// The sealed cookie.
        sealed: &'a [u8; 32],
    },
    /// Type 4.
    Data {
        /// The session.
        receiver: u32,
        /// The message's number in its session.
        counter: u64,
        /// How it is sealed.
        cipher: Cipher,
    },
}

impl<'a> Message<'a> {
    /// Reads the layout; `None` if it is none of the four.
    pub fn parse(datagram: &'a [u8]) -> Option<Self> {
        let (kind, rest) = datagram.split_first_chunk::<4>()?;
        let (first, rest) = rest.split_first_chunk::<4>()?;
        let first = u32::from_le_bytes(*first);
        match (kind, datagram.len()) {
            ([1, 0, 0, 0], INITIATION) => Some(Self::Initiation {
                sender: first,
                noise: rest.first_chunk()?,
            }),
            ([2, 0, 0, 0], RESPONSE) => {
                let (receiver, rest) = rest.split_first_chunk::<4>()?;
                Some(Self::Response {
                    sender: first,
                    receiver: u32::from_le_bytes(*receiver),
                    noise: rest.first_chunk()?,
                })
            }
            ([3, 0, 0, 0], COOKIE_REPLY) => {
                let (nonce, rest) = rest.split_first_chunk()?;
                Some(Self::CookieReply {
                    receiver: first,
                    nonce,
                    sealed: rest.first_chunk()?,
                })
            }
            ([4, flag, 0, 0], DATA_HEADER..) if datagram.len() >= DATA_HEADER + TAG => {
                let cipher = match flag {
                    0 => Cipher::ChaCha20Poly1305,
                    1 => Cipher::Aes256Gcm,
                    _ => return None,
                };
                Some(Self::Data {
                    receiver: first,
                    counter: u64::from_le_bytes(*rest.first_chunk()?),
                    cipher,
                })
            }
            _ => None,
        }
    }
}

/// The header of a data message.
pub fn data_header(receiver: u32, counter: u64, cipher: Cipher) -> [u8; DATA_HEADER] {
    let flag = match cipher {
        Cipher::ChaCha20Poly1305 => 0,
        Cipher::Aes256Gcm => 1,
    };
    let [r0, r1, r2, r3] = receiver.to_le_bytes();
    let [c0, c1, c2, c3, c4, c5, c6, c7] = counter.to_le_bytes();
    [
        4, flag, 0, 0, r0, r1, r2, r3, c0, c1, c2, c3, c4, c5, c6, c7,
    ]
}

/// A handshake initiation without its authenticators, which the caller writes into the last [`MACS`] bytes.
pub fn initiation(sender: u32, noise: &[u8; NOISE_INITIATION]) -> [u8; INITIATION] {
    let mut message = [0; INITIATION];
    lay(&mut message, [&[1, 0, 0, 0], &sender.to_le_bytes(), noise]);
    message
}

/// A handshake response without its authenticators, which the caller writes into the last [`MACS`] bytes.
pub fn response(sender: u32, receiver: u32, noise: &[u8; NOISE_RESPONSE]) -> [u8; RESPONSE] {
    let mut message = [0; RESPONSE];
    let (sender, receiver) = (sender.to_le_bytes(), receiver.to_le_bytes());
    lay(&mut message, [&[2, 0, 0, 0], &sender, &receiver, noise]);
    message
}

/// A cookie reply.
pub fn cookie_reply(receiver: u32, nonce: &[u8; 24], sealed: &[u8; 32]) -> [u8; COOKIE_REPLY] {
    let mut message = [0; COOKIE_REPLY];
    let receiver = receiver.to_le_bytes();
    lay(&mut message, [&[3, 0, 0, 0], &receiver, nonce, sealed]);
    message
}

/// Writes the fields one behind the other; what is left of the message stays zero.
fn lay<const N: usize>(message: &mut [u8], fields: [&[u8]; N]) {
    for (to, from) in message.iter_mut().zip(fields.into_iter().flatten()) {
        *to = *from;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_is_read_as_it_was_laid_out() {
        let message = initiation(7, &[1; NOISE_INITIATION]);
        let noise = &[1; NOISE_INITIATION];
        assert_eq!(
            Message::parse(&message),
            Some(Message::Initiation { sender: 7, noise })
        );
        let message = response(7, 8, &[2; NOISE_RESPONSE]);
        let noise = &[2; NOISE_RESPONSE];
        assert_eq!(
            Message::parse(&message),
            Some(Message::Response {
                sender: 7,
                receiver: 8,
                noise
            })
        );
        let message = cookie_reply(9, &[3; 24], &[4; 32]);
        assert_eq!(
            Message::parse(&message),
            Some(Message::CookieReply {
                receiver: 9,
                nonce: &[3; 24],
                sealed: &[4; 32]
            })
        );
        for cipher in [Cipher::ChaCha20Poly1305, Cipher::Aes256Gcm] {
            let mut message = data_header(u32::MAX, u64::MAX - 1, cipher).to_vec();
            message.extend([0; TAG]);
            assert_eq!(
                Message::parse(&message),
                Some(Message::Data {
                    receiver: u32::MAX,
                    counter: u64::MAX - 1,
                    cipher
                })
            );
        }
    }

    #[test]
    fn other_lengths_and_types_are_nothing() {
        let message = initiation(7, &[1; NOISE_INITIATION]);
        assert_eq!(Message::parse(&message[..INITIATION - 1]), None);
        let mut reserved = message;
        reserved[2] = 1;
        assert_eq!(Message::parse(&reserved), None);
        let mut data = data_header(1, 1, Cipher::Aes256Gcm).to_vec();
        assert_eq!(Message::parse(&data), None, "no room for a tag");
        data.extend([0; TAG]);
        data[1] = 2;
        assert_eq!(Message::parse(&data), None, "a cipher of the future");
        assert_eq!(Message::parse(&[]), None);
    }
}
