//! How messages are sent: counted, encoded if the run asks for it, and given to the links.

use comity_core::Time;
use comity_overlay::wire::{
    decode_request, decode_response, encode_request, encode_response, encoded_request_len,
    encoded_response_len,
};
use comity_overlay::{Contact, Errand, Failure, Request, RequestFrame, RequestId, Response};

use super::happen::Asker;
use super::parcels::Parcel;
use super::{MESSAGE_OVERHEAD_BYTES, Messages, NodeIx, World, short};
use crate::check::Rule;
use crate::link::Flight;
use crate::report::traffic;

impl World {
    fn push(&mut self, at: Time, parcel: Parcel) {
        let name = self.parcels.put(parcel);
        self.queue.push(at, name);
    }

    pub(super) fn send_request(
        &mut self,
        from: NodeIx,
        contact: &Contact,
        id: RequestId,
        request: Request,
        errand: Errand,
    ) {
        let me = &self.nodes[from].contact;
        let (incarnation, bytes) =
            (self.nodes[from].incarnation, encoded_request_len(&request, me.addrs.len()));
        let request = match self.settings.messages {
            Messages::Values => request,
            Messages::Encoded => {
                let frame = RequestFrame { server: me.server, addrs: me.addrs.clone(), request };
                let encoded = encode_request(&frame);
                match decode_request(&encoded) {
                    Ok(decoded) if decoded == frame && encoded.len() == bytes => decoded.request,
                    result => {
                        let detail = format!(
                            "{} bytes, {bytes} announced: {frame:?} became {result:?}",
                            encoded.len()
                        );
                        return self.violations.add(self.now, Some(from), Rule::Codec, detail);
                    }
                }
            }
        };
        self.account(from, traffic::of_request(&request), errand, bytes);
        let Some(to) =
            self.listener(contact).filter(|to| self.nodes[*to].contact.agent == contact.agent)
        else {
            let at = self.now + self.settings.link.access_median;
            return self.push(
                at,
                Parcel::Failed {
                    to: short(from),
                    incarnation,
                    id,
                    failure: Failure::WrongIdentity,
                },
            );
        };
        let flight = self.fly(from, to);
        let (to, from) = (short(to), short(from));
        let make = |request| Parcel::Request { to, from, incarnation, id, request, errand };
        match flight {
            None => {}
            Some((at, None)) => self.push(at, make(request)),
            Some((at, Some(again))) => {
                self.push(at, make(request.clone()));
                self.push(again, make(request));
            }
        }
    }

    pub(super) fn send_response(&mut self, from: NodeIx, asker: Asker, response: Response) {
        let Asker { from: to, incarnation, id, errand, .. } = asker;
        let bytes = encoded_response_len(&response);
        let response = match self.settings.messages {
            Messages::Values => response,
            Messages::Encoded => {
                let encoded = encode_response(&response);
                match decode_response(&encoded, &mut self.services.places) {
                    Ok(decoded) if decoded == response && encoded.len() == bytes => decoded,
                    result => {
                        let detail = format!(
                            "{} bytes, {bytes} announced: {response:?} became {result:?}",
                            encoded.len()
                        );
                        return self.violations.add(self.now, Some(from), Rule::Codec, detail);
                    }
                }
            }
        };
        self.account(from, traffic::of_response(&response), errand, bytes);
        let flight = self.fly(from, to);
        let (to, from) = (short(to), short(from));
        let make = |response| Parcel::Response { to, from, incarnation, id, response };
        match flight {
            None => {}
            Some((at, None)) => self.push(at, make(response)),
            Some((at, Some(again))) => {
                self.push(at, make(response.clone()));
                self.push(again, make(response));
            }
        }
    }

    fn account(&mut self, from: NodeIx, kind: usize, errand: Errand, bytes: usize) {
        let bytes = bytes as u64 + MESSAGE_OVERHEAD_BYTES;
        self.traffic.add(kind, errand, bytes);
        self.counters.messages += 1;
        self.counters.bytes += bytes;
        let node = &mut self.nodes[from];
        node.messages_sent += 1;
        node.bytes_sent += bytes;
        self.note(10, from, 0, 0, bytes);
    }

    /// When a message arrives, and when its copy does. `None`: never.
    fn fly(&mut self, from: NodeIx, to: NodeIx) -> Option<(Time, Option<Time>)> {
        if self.partitioned && self.nodes[from].side != self.nodes[to].side {
            self.counters.cut += 1;
            return None;
        }
        match self.settings.link.fly(&mut self.random, &self.nodes[from].line, &self.nodes[to].line)
        {
            Flight::Lost => {
                self.counters.lost += 1;
                None
            }
            Flight::Arrives { after, reordered, copy } => {
                self.counters.reordered += u64::from(reordered);
                self.counters.duplicated += u64::from(copy.is_some());
                Some((self.now + after, copy.map(|copy| self.now + copy)))
            }
        }
    }
}
