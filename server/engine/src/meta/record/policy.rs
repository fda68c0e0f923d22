//! A policy in the record of its bucket: read with each request, so it is not kept as JSON.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::{
    auth::Action,
    codec::{DecodeError, Reader, Writer},
    types::{Effect, Grant, POLICY_VERSION, Policy, PolicyConditions, Statement},
};

pub(super) fn encode(policy: &Policy, w: &mut Writer) {
    w.u16(length(policy.statements.len()));
    for statement in &policy.statements {
        w.optional_text16(statement.sid.as_deref());
        w.u8(match statement.effect {
            Effect::Allow => 0,
            Effect::Deny => 1,
        });
        w.u16(length(statement.actions.len()));
        for grant in &statement.actions {
            w.u8(number(*grant));
        }
        w.texts16(&statement.prefixes).texts16(&statement.subjects);
        let networks = &statement.conditions.ip_whitelist;
        w.u16(length(networks.len()));
        for network in networks {
            match network.addr() {
                IpAddr::V4(address) => w.u8(4).raw(&address.octets()),
                IpAddr::V6(address) => w.u8(6).raw(&address.octets()),
            };
            w.u8(network.prefix_len());
        }
    }
    if let Some(document) = &policy.document {
        w.bytes16(document.as_bytes());
    }
}

/// A policy is limited in bytes, and each of these takes at least one.
fn length(length: usize) -> u16 {
    u16::try_from(length).expect("a policy is limited to 20 KiB")
}

pub(super) fn decode(r: &mut Reader, has_document: bool) -> Result<Policy, DecodeError> {
    let statements = (0..r.u16("statement count")?)
        .map(|_| statement(r))
        .collect::<Result<_, _>>()?;
    let document = match has_document {
        true => Some(r.text16("document")?.to_owned()),
        false => None,
    };
    Ok(Policy {
        version: POLICY_VERSION.to_owned(),
        statements,
        document,
    })
}

fn statement(r: &mut Reader) -> Result<Statement, DecodeError> {
    let sid = r.optional_text16("sid")?;
    let effect = match r.u8("effect")? {
        0 => Effect::Allow,
        1 => Effect::Deny,
        _ => return Err(r.error("effect")),
    };
    let actions = (0..r.u16("action count")?)
        .map(|_| grant(r))
        .collect::<Result<_, _>>()?;
    let (prefixes, subjects) = (r.texts16("prefixes")?, r.texts16("subjects")?);
    let ip_whitelist = (0..r.u16("network count")?)
        .map(|_| network(r))
        .collect::<Result<_, _>>()?;
    Ok(Statement {
        sid,
        effect,
        actions,
        prefixes,
        subjects,
        conditions: PolicyConditions { ip_whitelist },
    })
}

fn network(r: &mut Reader) -> Result<IpNet, DecodeError> {
    let address: IpAddr = match r.u8("address family")? {
        4 => r.array::<4>("address")?.into(),
        6 => r.array::<16>("address")?.into(),
        _ => return Err(r.error("address family")),
    };
    let length = r.u8("prefix length")?;
    IpNet::new(address, length).map_err(|_| r.error("prefix length"))
}

fn number(grant: Grant) -> u8 {
    let place = |action: Action| Action::NAMED.iter().position(|a| a.name() == action.name());
    match grant {
        Grant::All => 0,
        Grant::One(action) => 1 + place(action).expect("each has a name") as u8,
    }
}

fn grant(r: &mut Reader) -> Result<Grant, DecodeError> {
    match r.u8("action")? {
        0 => Ok(Grant::All),
        n => match Action::NAMED.get(usize::from(n) - 1) {
            Some(action) => Ok(Grant::One(*action)),
            None => Err(r.error("action")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: &str = r#"{"version":"2024-01-01","statements":[
        {"effect":"allow","actions":["*"],"subjects":["*"]},
        {"sid":"s","effect":"deny","actions":["bucket:list","bucket:read-meta","bucket:write-meta","object:get","object:put",
         "object:delete","object:list","multipart:create","multipart:upload-part","multipart:complete","multipart:abort"],
         "prefixes":["a/","b"],"subjects":["t","u"],"conditions":{"ip_whitelist":["10.0.0.0/8","fe80::/10"]}}]}"#;

    #[test]
    fn what_is_decoded_is_what_was_encoded() {
        for document in [None, Some("as it was written".to_owned())] {
            let has_document = document.is_some();
            let policy = Policy {
                document,
                ..Policy::parse(JSON.as_bytes()).unwrap()
            };
            let mut w = Writer::default();
            encode(&policy, &mut w);
            let bytes = w.into_bytes();
            let mut r = Reader::new("policy", &bytes);
            assert_eq!(decode(&mut r, has_document).unwrap(), policy);
            r.finish().unwrap();
            for end in 0..bytes.len() {
                let mut cut = Reader::new("policy", &bytes[..end]);
                assert!(decode(&mut cut, has_document).is_err(), "{end}");
            }
        }
    }

    #[test]
    fn no_byte_makes_it_panic() {
        let mut w = Writer::default();
        encode(&Policy::parse(JSON.as_bytes()).unwrap(), &mut w);
        let bytes = w.into_bytes();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut bytes = bytes.clone();
                bytes[at] ^= 1 << bit;
                let _ = decode(&mut Reader::new("policy", &bytes), bit % 2 == 0);
            }
        }
    }
}
