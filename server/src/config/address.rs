//! Addresses in settings: where a port listens, which proxies are trusted, how clients reach us from outside.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs},
    str::FromStr,
};

use ipnet::IpNet;

/// What to write where an address is asked for.
pub(super) const HELP: &str = "give HOST:PORT, or :PORT for every interface";

/// Where a port listens: `HOST:PORT`, or `:PORT` for every interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenAddr {
    text: String,
    host: Option<IpAddr>,
    port: u16,
}

impl ListenAddr {
    /// The addresses to try, in this order; the first that this machine knows is taken.
    pub fn candidates(&self) -> Vec<SocketAddr> {
        match self.host {
            Some(host) => vec![(host, self.port).into()],
            // The first is both: a socket on [::] takes IPv4 as well.
            None => vec![
                (Ipv6Addr::UNSPECIFIED, self.port).into(),
                (Ipv4Addr::UNSPECIFIED, self.port).into(),
            ],
        }
    }

    /// The address by which a client on this machine reaches it.
    pub fn connect_addr(&self) -> SocketAddr {
        let host = match self.host {
            None => Ipv4Addr::LOCALHOST.into(),
            Some(host) if host.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            Some(host) => host,
        };
        (host, self.port).into()
    }
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for ListenAddr {
    type Err = String;

    /// Looks a host name up, so it may take a while.
    fn from_str(text: &str) -> Result<Self, String> {
        let (host, port) = split(text)?;
        let host = match host {
            "" => None,
            _ => {
                let mut addrs = (host, port)
                    .to_socket_addrs()
                    .map_err(|error| format!("the host is not known ({error})"))?;
                Some(addrs.next().ok_or("the host has no address")?.ip())
            }
        };
        Ok(Self {
            text: text.to_owned(),
            host,
            port,
        })
    }
}

/// Host, empty for every interface, and port, without looking at the network.
pub(super) fn split(text: &str) -> Result<(&str, u16), String> {
    if text.contains("://") {
        return Err("it is a URL".into());
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err("the port is missing".into());
    };
    let number = port
        .parse()
        .map_err(|_| format!("{port:?} is not a port"))?;
    Ok((host.trim_matches(['[', ']']), number))
}

/// Peers whose word about the client's address is taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    networks: Vec<IpNet>,
    /// Not networks of the owner's but [`NEAR`].
    is_near: bool,
}

/// Loopback, private and link-local networks.
const NEAR: [&str; 8] = [
    "127.0.0.0/8",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "169.254.0.0/16",
    "::1/128",
    "fc00::/7",
    "fe80::/10",
];

impl TrustedProxies {
    /// Whether none is trusted.
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty()
    }

    /// Their networks.
    pub fn networks(&self) -> &[IpNet] {
        &self.networks
    }

    /// Whether the headers of `peer` count. An IPv4 address in IPv6 form is the same peer.
    pub fn contains(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.networks.iter().any(|network| network.contains(&peer))
    }
}

impl FromStr for TrustedProxies {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "1" | "t" | "true" => {
                let networks = NEAR.iter().map(|network| parse_network(network));
                Ok(Self {
                    networks: networks.collect::<Result<_, _>>()?,
                    is_near: true,
                })
            }
            "" | "0" | "f" | "false" => Ok(Self::default()),
            _ => Ok(Self {
                networks: super::kind::items(text)
                    .map(parse_network)
                    .collect::<Result<_, _>>()?,
                is_near: false,
            }),
        }
    }
}

fn parse_network(text: &str) -> Result<IpNet, String> {
    jay_engine::parse_network(text).ok_or_else(|| {
        format!("{text:?} is not a network; give true, false, or networks such as 10.0.0.0/8,::1")
    })
}

impl fmt::Display for TrustedProxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_near || self.networks.is_empty() {
            return self.is_near.fmt(f);
        }
        for (at, network) in self.networks.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{network}")?;
        }
        Ok(())
    }
}

/// Scheme, host and port by which clients reach us, without a slash at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(String);

impl Origin {
    /// As text, such as `https://s3.example.com`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Origin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let help = || "give http(s)://HOST or http(s)://HOST:PORT, without a path".to_owned();
        let uri: http::Uri = text.parse().map_err(|_| help())?;
        let scheme = uri.scheme_str().filter(|s| ["http", "https"].contains(s));
        let authority = uri.authority().filter(|a| !a.as_str().contains('@'));
        let port_is_good = |a: &&http::uri::Authority| match a.as_str().rsplit_once(':') {
            Some((_, port)) if !port.ends_with(']') => port.parse::<u16>().is_ok(),
            _ => true,
        };
        let is_bare =
            ["", "/"].contains(&uri.path()) && uri.query().is_none() && !text.contains('#');
        match (scheme, authority.filter(port_is_good)) {
            (Some(scheme), Some(authority)) if is_bare && !authority.host().is_empty() => {
                Ok(Self(format!("{scheme}://{authority}")))
            }
            _ => Err(help()),
        }
    }
}
