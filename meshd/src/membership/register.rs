//! With which record, address and name does this node register?

use std::net::IpAddr;

use mesh_wire::{
    discovery::RegisterPeer,
    peer_info::{Directory, PeerInfo, PeerRecord},
    trust::{Binding, Certificate},
};

use super::{Membership, random_u64};
use crate::{
    discovery::{ServerError, rest::Conversation},
    problem::{self, Problem},
    trust::{
        anchor::{Anchor, OwnKeys},
        place::{Place, Wish, first_start},
        unix_time,
    },
};

/// How often a place is chosen anew after another member was faster: where a hundred join at once a range of two hundred
/// addresses, one meets another in half of the cases.
const ATTEMPTS: u32 = 20;

/// For how long the same record is shown again, in seconds: others read from it what time it is at least.
const FRESH: u64 = 3600;

impl Membership {
    /// Registers, with the certificate that we have, or one for a place that is free.
    ///
    /// # Errors
    /// The outer one if this node can do nothing about it.
    pub async fn register(
        &self,
        conversation: &mut Conversation<'_>,
    ) -> Result<Result<PeerInfo, ServerError>, Problem> {
        let network = self.network();
        let id = network.id;
        let Some(anchor) = &network.anchor else {
            let registration = self.registration(None)?;
            let answer = conversation.register(&id, &registration).await;
            return Ok(answer.inspect_err(|error| self.note_refusal(error)));
        };
        let mut certificate = anchor.current(self.keys(), &network.name).cloned();
        for attempt in 0..ATTEMPTS {
            let stored = certificate.is_some();
            let current = match certificate.take() {
                Some(current) => current,
                None => match conversation.peers(&id).await {
                    Ok(members) => self.certify(&members, attempt)?,
                    Err(error) => return Ok(Err(error)),
                },
            };
            match self.register_with(conversation, current).await? {
                Err(ServerError::Refused(refusal)) if self.may_try_again(&refusal, stored) => {
                    tracing::debug!(%refusal, "tries with another certificate");
                }
                answer => return Ok(answer),
            }
        }
        Ok(Err(ServerError::Unreachable(format!(
            "{ATTEMPTS} times another member took the address or name first"
        ))))
    }

    /// Registers with this certificate, and keeps it if the server takes it.
    pub async fn register_with(
        &self,
        conversation: &mut Conversation<'_>,
        certificate: Certificate,
    ) -> Result<Result<PeerInfo, ServerError>, Problem> {
        let registration = self.registration(Some(&certificate))?;
        let id = self.network().id;
        let own = match conversation.register(&id, &registration).await {
            Ok(own) => own,
            Err(error) => {
                self.note_refusal(&error);
                return Ok(Err(error));
            }
        };
        let Binding {
            name, virtual_ips, ..
        } = &certificate.binding;
        let is_ours = (&own.name, &own.virtual_ips) == (name, virtual_ips)
            && own.record == registration.record;
        if !is_ours {
            self.sign_anew();
            return Ok(Err(ServerError::Unreachable(
                "what it made of our registration is not what we signed".to_owned(),
            )));
        }
        self.keep(certificate)?;
        Ok(Ok(own))
    }

    /// What we sign of ourselves in this run: `own` if it is that, else a new record, with the certificate that we have.
    ///
    /// # Errors
    /// If it cannot be signed, or its number not stored.
    pub fn own_record(&self, own: Option<&PeerInfo>) -> Result<PeerRecord, Problem> {
        if let Some(own) = own.filter(|own| own.record.instance == self.instance) {
            return Ok(own.record.clone());
        }
        let anchor = self.network().anchor;
        let certificate = anchor.and_then(|anchor| anchor.certificate);
        let registration = self.registration(certificate.as_ref())?;
        Ok(registration.record)
    }

    /// As [`Anchor::is_better`].
    pub fn is_better(&self, certificate: &Certificate) -> bool {
        let network = self.network();
        let anchor = network.anchor.as_ref();
        anchor.is_some_and(|anchor: &Anchor| anchor.is_better(&network.id, certificate))
    }

    /// Whether another certificate may be tried: for another place while we have none, or because the one that we had holds
    /// no more and there is another link.
    fn may_try_again(&self, refusal: &Problem, stored: bool) -> bool {
        let network = self.network();
        let Some(anchor) = &network.anchor else {
            return false;
        };
        let code = refusal.code.as_str();
        let has_place = !network.virtual_ips.is_empty();
        let is_taken = code == "name-taken" && !stored || code == "address-taken" && !has_place;
        let holds_no_more = ["certificate-expired", "invite-expired", "invite-used-up"].contains(&code)
                // The link that it rests on may be ended, or the admin be revoked, and this link is another one.
                || code == "revoked" && anchor.has_another_link();
        anchor.can_certify() && (is_taken || stored && holds_no_more)
    }

    fn certify(&self, members: &Directory, attempt: u32) -> Result<Certificate, Problem> {
        let network = self.network();
        let anchor = network.anchor.as_ref();
        let anchor = anchor.ok_or_else(problem::cannot_certify)?;
        let wish = Wish {
            node_id: self.identity.node_id(),
            cidr: network.cidr,
            address: network.virtual_ips.first().copied(),
            hostname: &network.name,
            start: match attempt {
                0 => first_start(&self.identity.node_id(), network.created),
                _ => random_u64()?,
            },
        };
        let place = wish
            .choose(members)
            .ok_or_else(|| problem::no_address_left(network.cidr))?;
        // The interface has it, and the others know it: nobody who lists it for another moves us.
        let place = match network.virtual_ips.first() {
            Some(IpAddr::V4(own)) => Place {
                address: *own,
                ..place
            },
            Some(IpAddr::V6(_)) | None => place,
        };
        anchor.certify(&network.id, self.keys(), &place)
    }

    fn keep(&self, certificate: Certificate) -> Result<(), Problem> {
        self.change(|network| {
            if let Some(anchor) = &mut network.anchor {
                anchor.certificate = Some(certificate);
            }
        })
    }

    /// The record to be registered: the one that other servers have while it is fresh, else one with the next sequence
    /// number.
    fn registration(&self, certificate: Option<&Certificate>) -> Result<RegisterPeer, Problem> {
        let mut held = self.held();
        let stated = certificate.map(Certificate::to_text);
        let now = unix_time();
        let signed = held.signed.take().filter(|record| {
            record.certificate == stated && now < record.seq.saturating_add(FRESH)
        });
        let record = match signed {
            Some(record) => record,
            None => {
                let seq = self.state.next_seq(&mut held.network)?;
                PeerRecord::sign_with(
                    self.identity.signing_key(),
                    &held.network.id,
                    self.identity.wireguard_key(),
                    (&held.network.name, certificate),
                    (seq, self.instance),
                )
                .map_err(|error| problem::operation_failed("sign our peer record", &error))?
            }
        };
        held.signed = Some(record.clone());
        Ok(RegisterPeer {
            record,
            requested_ip: held.network.virtual_ips.first().copied(),
        })
    }

    /// A server has a newer record than the one that it was shown: the next one is a new one.
    fn note_refusal(&self, error: &ServerError) {
        if matches!(error, ServerError::Refused(refusal) if refusal.code == "stale-record") {
            self.sign_anew();
        }
    }

    fn sign_anew(&self) {
        self.held().signed = None;
    }

    fn keys(&self) -> OwnKeys {
        OwnKeys {
            node_id: self.identity.node_id(),
            wireguard_key: self.identity.wireguard_key(),
        }
    }
}
