//! How is a peer reached directly? Candidates are gathered, exchanged and checked as RFC 8445 has it.

pub mod agent;
pub mod birthday;
pub mod gather;
pub mod knocks;
pub mod loss;
pub mod mtu;
pub mod opening;
pub mod place;
pub mod redial;
pub mod stun_index;
pub mod stun_question;
pub mod turn;
pub mod vigil;
pub mod watch;
