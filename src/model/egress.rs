//! Which addresses a guest may reach: public ones, and those that the operator names.
//!
//! The rule is applied to addresses, never to names: a name can be made to point anywhere, also between two lookups. What is
//! not known to be public is refused, so a range that is given out anew is closed until somebody looks at it.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// Ranges of IPv4 that are not public, with what they are. The first that matches is the one that is said.
/// Source: IANA's registry of special-purpose addresses.
const SPECIAL_V4: &[(Ipv4Addr, u8, &str)] = &[
    (Ipv4Addr::new(0, 0, 0, 0), 8, "an unspecified"),
    (Ipv4Addr::new(10, 0, 0, 0), 8, "a private"),
    (Ipv4Addr::new(100, 64, 0, 0), 10, "a provider's internal"),
    (Ipv4Addr::new(127, 0, 0, 0), 8, "a loopback"),
    // The metadata services of most clouds.
    (Ipv4Addr::new(169, 254, 0, 0), 16, "a link-local"),
    (Ipv4Addr::new(172, 16, 0, 0), 12, "a private"),
    (Ipv4Addr::new(192, 0, 0, 0), 24, "a reserved"),
    (Ipv4Addr::new(192, 0, 2, 0), 24, "a documentation"),
    (Ipv4Addr::new(192, 88, 99, 0), 24, "a reserved"),
    (Ipv4Addr::new(192, 168, 0, 0), 16, "a private"),
    (Ipv4Addr::new(198, 18, 0, 0), 15, "a benchmarking"),
    (Ipv4Addr::new(198, 51, 100, 0), 24, "a documentation"),
    (Ipv4Addr::new(203, 0, 113, 0), 24, "a documentation"),
    (Ipv4Addr::new(224, 0, 0, 0), 4, "a multicast"),
    (Ipv4Addr::new(240, 0, 0, 0), 4, "a reserved"),
    // A public address that answers inside Azure only: its platform's agent, with credentials.
    (Ipv4Addr::new(168, 63, 129, 16), 32, "a metadata"),
];

/// Ranges of IPv6 that are not public although they are in the public eighth, or that have a better name than "reserved".
const SPECIAL_V6: &[(Ipv6Addr, u8, &str)] = &[
    (Ipv6Addr::UNSPECIFIED, 128, "an unspecified"),
    (Ipv6Addr::LOCALHOST, 128, "a loopback"),
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23, "a reserved"),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32, "a documentation"),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20, "a documentation"),
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7, "a private"),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10, "a link-local"),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8, "a multicast"),
];

/// The eighth of IPv6 that is given out to the public.
const PUBLIC_V6: Range = Range { address: IpAddr::V6(Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0)), bits: 3 };
/// Addresses behind which a translator reaches the IPv4 address in their last four bytes.
const NAT64: Range = Range { address: IpAddr::V6(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0)), bits: 96 };
/// Addresses that are tunnelled to the IPv4 address in their bytes 2 to 5.
const SIX_TO_FOUR: Range = Range { address: IpAddr::V6(Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0)), bits: 16 };

/// An address and how many of its leading bits count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    address: IpAddr,
    bits: u8,
}

impl Range {
    /// Whether an address is in the range. An IPv4 range holds IPv4 addresses only.
    pub fn contains(&self, address: IpAddr) -> bool {
        let (of_range, of_address, width) = match (self.address, address) {
            (IpAddr::V4(range), IpAddr::V4(address)) => (u128::from(range.to_bits()), u128::from(address.to_bits()), 32),
            (IpAddr::V6(range), IpAddr::V6(address)) => (range.to_bits(), address.to_bits(), 128),
            _ => return false,
        };
        // No bit counts: a shift by the whole width of a number would overflow.
        self.bits == 0 || (of_range ^ of_address) >> (width - self.bits) == 0
    }
}

impl FromStr for Range {
    type Err = String;

    fn from_str(text: &str) -> Result<Range, String> {
        let wrong = || format!("{text:?} is no address range such as 10.1.0.0/16 or fd00::/8");
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(width), |bits| bits.parse().map_err(|_| wrong()))?;
        if bits > width {
            return Err(wrong());
        }
        Ok(Range { address, bits })
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

/// What an operator allows beyond public addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowed {
    /// Nothing: how a list is written that allows public addresses only.
    Public,
    /// This machine.
    Loopback,
    /// Every address there is, the metadata services of clouds included.
    All,
    /// A range.
    Range(Range),
}

impl Allowed {
    fn covers(&self, address: IpAddr) -> bool {
        match self {
            Allowed::Public => false,
            Allowed::Loopback => address.is_loopback(),
            Allowed::All => true,
            Allowed::Range(range) => range.contains(address),
        }
    }
}

impl FromStr for Allowed {
    type Err = String;

    fn from_str(text: &str) -> Result<Allowed, String> {
        match text {
            "public" => Ok(Allowed::Public),
            "loopback" => Ok(Allowed::Loopback),
            "all" => Ok(Allowed::All),
            range => range.parse().map(Allowed::Range).map_err(|error| format!("{error}, and none of: public, loopback, all")),
        }
    }
}

/// What a refused address is, as in "a private".
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} address")]
pub struct Refused(pub &'static str);

/// Public addresses, and what else is allowed. Without anything else: [`EgressPolicy::default`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EgressPolicy {
    allowed: Vec<Allowed>,
}

impl EgressPolicy {
    /// Public addresses and these.
    pub fn new(allowed: Vec<Allowed>) -> EgressPolicy {
        EgressPolicy { allowed }
    }

    /// Whether the operator has allowed an address, or this machine, by name: not as one of the public ones.
    pub fn names(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.allowed.iter().any(|allowed| matches!(allowed, Allowed::Loopback) || allowed.covers(address))
    }

    /// Whether a guest may connect to an address.
    ///
    /// # Errors
    /// What the address is, if it may not.
    pub fn check(&self, address: IpAddr) -> Result<(), Refused> {
        // The kernel connects to the IPv4 address inside, whatever the address is written as.
        let address = address.to_canonical();
        if self.allowed.iter().any(|allowed| allowed.covers(address)) {
            return Ok(());
        }
        match (address, embedded(address)) {
            (_, Some(inside)) => self.check(IpAddr::V4(inside)),
            (IpAddr::V4(address), None) => {
                special(SPECIAL_V4.iter().map(|(at, bits, what)| ((*at).into(), *bits, *what)), address)
            }
            (IpAddr::V6(address), None) => {
                special(SPECIAL_V6.iter().map(|(at, bits, what)| ((*at).into(), *bits, *what)), address)?;
                if PUBLIC_V6.contains(address.into()) { Ok(()) } else { Err(Refused("a reserved")) }
            }
        }
    }
}

/// The IPv4 address that a translator or tunnel would reach through an IPv6 address.
fn embedded(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(v6) = address else { return None };
    let bytes = v6.octets();
    let at = if NAT64.contains(address) {
        12
    } else if SIX_TO_FOUR.contains(address) {
        2
    } else {
        return None;
    };
    Some(Ipv4Addr::new(bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]))
}

fn special(ranges: impl Iterator<Item = (IpAddr, u8, &'static str)>, address: impl Into<IpAddr>) -> Result<(), Refused> {
    let address = address.into();
    for (start, bits, what) in ranges {
        if (Range { address: start, bits }).contains(address) {
            return Err(Refused(what));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(policy: &EgressPolicy, address: &str) -> Option<&'static str> {
        policy.check(address.parse().unwrap()).err().map(|refused| refused.0)
    }

    #[test]
    fn public_addresses_are_open() {
        let policy = EgressPolicy::default();
        for address in [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.167.255.255",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "168.63.129.15",
            "2606:4700:4700::1111",
            "2001:4860:4860::8888",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
            "2002:808:808::1",
        ] {
            assert_eq!(refusal(&policy, address), None, "{address}");
        }
    }

    #[test]
    fn everything_else_is_refused_in_every_form_it_can_be_written_in() {
        let policy = EgressPolicy::default();
        for (address, what) in [
            ("0.0.0.0", "an unspecified"),
            ("0.1.2.3", "an unspecified"),
            ("10.0.0.1", "a private"),
            ("100.64.0.1", "a provider's internal"),
            ("100.100.100.200", "a provider's internal"),
            ("127.0.0.1", "a loopback"),
            ("127.255.255.254", "a loopback"),
            ("168.63.129.16", "a metadata"),
            ("169.254.169.254", "a link-local"),
            ("172.16.0.1", "a private"),
            ("172.31.255.255", "a private"),
            ("192.0.0.192", "a reserved"),
            ("192.0.2.1", "a documentation"),
            ("192.88.99.1", "a reserved"),
            ("192.168.1.1", "a private"),
            ("198.18.0.1", "a benchmarking"),
            ("198.19.255.255", "a benchmarking"),
            ("198.51.100.1", "a documentation"),
            ("203.0.113.1", "a documentation"),
            ("224.0.0.1", "a multicast"),
            ("239.255.255.255", "a multicast"),
            ("240.0.0.1", "a reserved"),
            ("255.255.255.255", "a reserved"),
            ("::", "an unspecified"),
            ("::1", "a loopback"),
            ("::127.0.0.1", "a reserved"),
            ("::ffff:127.0.0.1", "a loopback"),
            ("::ffff:169.254.169.254", "a link-local"),
            ("64:ff9b::7f00:1", "a loopback"),
            ("64:ff9b::a9fe:a9fe", "a link-local"),
            ("64:ff9b:1::a00:1", "a reserved"),
            ("100::1", "a reserved"),
            ("2001::1", "a reserved"),
            ("2001:2::1", "a reserved"),
            ("2001:db8::1", "a documentation"),
            ("2002:7f00:1::", "a loopback"),
            ("2002:a00:1::1", "a private"),
            ("3fff::1", "a documentation"),
            ("4000::1", "a reserved"),
            ("5f00::1", "a reserved"),
            ("fc00::1", "a private"),
            ("fd00:ec2::254", "a private"),
            ("fe80::1", "a link-local"),
            ("fec0::1", "a reserved"),
            ("ff02::1", "a multicast"),
        ] {
            assert_eq!(refusal(&policy, address), Some(what), "{address}");
        }
    }

    #[test]
    fn what_is_allowed_is_allowed_in_every_form_and_nothing_next_to_it() {
        let policy = EgressPolicy::new(vec!["10.1.0.0/16".parse().unwrap(), "fd00:1::/32".parse().unwrap()]);
        for address in ["10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::a01:203", "2002:a01:203::1", "fd00:1::7", "1.1.1.1"] {
            assert_eq!(refusal(&policy, address), None, "{address}");
        }
        for address in ["10.2.0.0", "10.0.255.255", "fd00:2::1", "127.0.0.1", "169.254.169.254"] {
            assert!(refusal(&policy, address).is_some(), "{address}");
        }
        let loopback = EgressPolicy::new(vec![Allowed::Public, Allowed::Loopback]);
        assert_eq!(refusal(&loopback, "127.9.9.9"), None);
        assert_eq!(refusal(&loopback, "::1"), None);
        assert_eq!(refusal(&loopback, "::ffff:127.0.0.1"), None);
        assert_eq!(refusal(&loopback, "169.254.169.254"), Some("a link-local"));
        let named = |policy: &EgressPolicy| policy.names("1.1.1.1".parse().unwrap());
        assert!(!named(&policy) && !named(&EgressPolicy::default()) && named(&loopback));
        let all = EgressPolicy::new(vec![Allowed::All]);
        assert!(named(&all) && named(&EgressPolicy::new(vec!["1.1.1.0/24".parse().unwrap()])));
        assert_eq!(refusal(&all, "169.254.169.254"), None);
    }

    #[test]
    fn ranges_are_written_as_addresses_with_a_count_of_bits() {
        assert_eq!("10.1.2.3".parse::<Range>().unwrap().to_string(), "10.1.2.3/32");
        assert!("0.0.0.0/0".parse::<Range>().unwrap().contains("255.1.1.1".parse().unwrap()));
        assert!("::/0".parse::<Range>().unwrap().contains("ff::1".parse().unwrap()));
        for text in ["", "10.0.0.0/33", "::/129", "10.0.0/8", "10.0.0.0/-1", "10.0.0.0/", "localhost", "10.0.0.0/8/9"] {
            assert!(text.parse::<Range>().is_err(), "{text}");
        }
        assert!("everything".parse::<Allowed>().unwrap_err().contains("none of: public, loopback, all"));
    }
}
