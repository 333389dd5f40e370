//! Work done once: which answers may be reused, how they are found, checked and compared, and what becomes of those who lie.
//!
//! An answer is a signed object. Its producer's receipt binds capability, request, answer, time and validity, so anybody who has the two can
//! check them, whoever handed them over. On that rest, from the inside out:
//!
//! * [`terms`]: what a capability declares about its answers - scope, time to live, data version, determinism;
//! * [`key`]: what a question is called, inside a node and, where that is allowed, outside;
//! * [`result`]: a result and every check before it is used; [`retract`]: taking answers back;
//! * [`ask`]: whether an answer comes from the own store, from peers or from the specialist;
//! * [`store`]: what is kept; [`worth`]: what is announced; [`mod@pointer`]: how holders are found;
//! * [`bulk`]: answers too large to be handed over as one piece, and how parts of them are verified; [`transfer`]: whom to ask for which part;
//! * [`subsume`]: answering a question from the answer to a larger one;
//! * [`compare`], [`quorum`], [`adaptive`]: asking several producers, always or now and then; [`contradiction`]: proving that one lied;
//! * [`ack`]: receipts signed by both sides; [`repute`]: what follows from all of that for whom to ask, and how often to check.
//!
//! The crate is pure: it reads no clock, opens no socket, draws no randomness. Times and seeds are arguments.

pub mod ack;
pub mod adaptive;
pub mod ask;
pub mod bulk;
pub mod compare;
pub mod contradiction;
pub mod key;
pub mod pointer;
pub mod quorum;
pub mod repute;
pub mod result;
pub mod retract;
pub mod store;
pub mod subsume;
pub mod terms;
pub mod transfer;
pub mod worth;
