//! The values of `jay bench`'s options: operation mix, sizes, durations, rate; and the random numbers drawn from them.

use std::{fmt, str::FromStr, time::Duration};

/// What one request does. Closed: these are all the operations the generator knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// PutObject of a new body, overwriting when the key is taken.
    Put,
    /// GetObject of the whole body, which is compared with what was written.
    Get,
    /// HeadObject; the size is compared.
    Head,
    /// DeleteObject.
    Delete,
    /// ListObjectsV2, one page.
    List,
}

impl Operation {
    /// All of them, in the order of reports.
    pub const ALL: [Self; 5] = [Self::Put, Self::Get, Self::Head, Self::Delete, Self::List];

    /// The name in `--mix` and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Get => "get",
            Self::Head => "head",
            Self::Delete => "delete",
            Self::List => "list",
        }
    }
}

/// Operations with their weights: `put=1,get=3`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mix {
    /// Weight of each of [`Operation::ALL`].
    weights: [u32; 5],
}

impl Mix {
    /// Draws an operation.
    pub fn pick(&self, random: &mut Random) -> Operation {
        let mut at = random.below(self.weights.iter().map(|&w| u64::from(w)).sum());
        for (operation, &weight) in Operation::ALL.into_iter().zip(&self.weights) {
            match at.checked_sub(u64::from(weight)) {
                Some(rest) => at = rest,
                None => return operation,
            }
        }
        unreachable!("the draw is below the sum of the weights")
    }

    /// Each of its operations alone.
    pub fn each(&self) -> Vec<Self> {
        let present = (0..self.weights.len()).filter(|&at| self.weights[at] > 0);
        let alone = present.map(|at| {
            let mut weights = [0; 5];
            weights[at] = 1;
            Self { weights }
        });
        alone.collect()
    }

    /// Whether any operation but PUT is in it, so that there must be objects beforehand.
    pub fn reads(&self) -> bool {
        self.weights[1..].iter().any(|&weight| weight > 0)
    }
}

impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut weights = [0; 5];
        for part in text.split(',').map(str::trim) {
            let (name, weight) = part.split_once('=').unwrap_or((part, "1"));
            let at = Operation::ALL
                .iter()
                .position(|operation| operation.name() == name)
                .ok_or_else(|| format!("`{name}` is not one of put, get, head, delete, list"))?;
            weights[at] = weight
                .parse()
                .map_err(|_| format!("the weight of {name} is a whole number"))?;
        }
        if weights == [0; 5] {
            return Err("at least one operation needs a weight above 0".into());
        }
        Ok(Self { weights })
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        for (operation, weight) in Operation::ALL.into_iter().zip(self.weights) {
            if weight > 0 {
                write!(f, "{comma}{}={weight}", operation.name())?;
                comma = ",";
            }
        }
        Ok(())
    }
}

/// Sizes of bodies in bytes, both ends included: `1KiB` or `1KiB..64KiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizeRange {
    min: u64,
    max: u64,
}

impl SizeRange {
    /// Draws a size, log-uniformly: as many between 1 and 2 KiB as between 32 and 64 KiB.
    pub fn pick(self, random: &mut Random) -> u64 {
        if self.min == self.max {
            return self.min;
        }
        let (low, high) = (((self.min + 1) as f64).ln(), ((self.max + 1) as f64).ln());
        let size = (low + (high - low) * random.fraction()).exp() - 1.0;
        (size.round() as u64).clamp(self.min, self.max)
    }
}

impl FromStr for SizeRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (min, max) = match text.split_once("..") {
            Some((min, max)) => (parse_size(min)?, parse_size(max)?),
            None => (parse_size(text)?, parse_size(text)?),
        };
        if min > max {
            return Err("the first size of a range is the smaller one".into());
        }
        Ok(Self { min, max })
    }
}

impl fmt::Display for SizeRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&size_text(self.min))?;
        if self.min != self.max {
            write!(f, "..{}", size_text(self.max))?;
        }
        Ok(())
    }
}

/// Largest body: what S3 takes in one PUT.
const SIZE_BYTES_MAX: u64 = 5 << 30;

fn parse_size(text: &str) -> Result<u64, String> {
    let (number, unit) = split_unit(text);
    let factor = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        _ => {
            return Err(format!(
                "`{unit}` is not a unit of size: use B, KiB, MiB or GiB"
            ));
        }
    };
    let number: u64 = number
        .parse()
        .map_err(|_| format!("`{text}` is not a size, as 64KiB is"))?;
    number
        .checked_mul(factor)
        .filter(|&bytes| bytes <= SIZE_BYTES_MAX)
        .ok_or_else(|| format!("`{text}` is above the 5 GiB of one PUT"))
}

fn size_text(bytes: u64) -> String {
    match bytes {
        0 => "0 B".into(),
        _ if bytes.is_multiple_of(1 << 30) => format!("{} GiB", bytes >> 30),
        _ if bytes.is_multiple_of(1 << 20) => format!("{} MiB", bytes >> 20),
        _ if bytes.is_multiple_of(1 << 10) => format!("{} KiB", bytes >> 10),
        _ => format!("{bytes} B"),
    }
}

/// Reads `10s`, `500ms`, `2m`, `1h`; a bare number counts seconds.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split_unit(text);
    let seconds = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("`{unit}` is not a unit of time: use ms, s, m or h")),
    };
    let number: f64 = number
        .parse()
        .map_err(|_| format!("`{text}` is not a duration, as 10s is"))?;
    Duration::try_from_secs_f64(number * seconds).map_err(|error| error.to_string())
}

/// Reads a rate in requests per second.
pub fn parse_rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate > 0.0 => Ok(rate),
        _ => Err("a rate is a number of requests per second above 0".into()),
    }
}

/// Splits `64KiB` behind its digits.
fn split_unit(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    (&text[..end], text[end..].trim())
}

/// A small generator of random numbers (SplitMix64): fast, seeded, not for secrets.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The same seed gives the same numbers.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        scramble(self.0)
    }

    /// A number below `bound`, which is above 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// A number from 0 up to but not including 1.
    pub fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Mixes 64 bits; a bijection, so different inputs stay different.
pub fn scramble(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mix_is_drawn_by_weight() {
        let mix: Mix = "put=1, get=3,delete=0".parse().unwrap();
        let mut random = Random::new(1);
        let mut drawn = [0u32; 5];
        for _ in 0..40_000 {
            drawn[mix.pick(&mut random) as usize] += 1;
        }
        assert!((9_500..10_500).contains(&drawn[0]), "{drawn:?}");
        assert_eq!(drawn[0] + drawn[1], 40_000, "{drawn:?}");
        assert_eq!(mix.to_string(), "put=1,get=3");
        assert!(mix.reads());
        let alone: Vec<_> = mix.each().iter().map(Mix::to_string).collect();
        assert_eq!(alone, ["put=1", "get=1"]);
        assert!(!"put=1".parse::<Mix>().unwrap().reads());
    }

    #[test]
    fn a_bad_mix_is_refused() {
        for text in ["", "put=", "put=-1", "copy=1", "put=0", "put=1,,get=1"] {
            assert!(text.parse::<Mix>().is_err(), "{text}");
        }
        assert_eq!("put".parse::<Mix>(), "put=1".parse());
    }

    #[test]
    fn sizes_have_units_and_ranges() {
        let size = |text: &str| text.parse::<SizeRange>();
        assert_eq!(
            size("1KiB"),
            Ok(SizeRange {
                min: 1024,
                max: 1024
            })
        );
        assert_eq!(size("0"), Ok(SizeRange { min: 0, max: 0 }));
        assert_eq!(
            size("256mib"),
            Ok(SizeRange {
                min: 256 << 20,
                max: 256 << 20
            })
        );
        assert_eq!(
            size("1kB..64 KiB"),
            Ok(SizeRange {
                min: 1000,
                max: 65_536
            })
        );
        for text in [
            "",
            "KiB",
            "1.5KiB",
            "1XiB",
            "2KiB..1KiB",
            "6GiB",
            "99999999999999999999",
        ] {
            assert!(size(text).is_err(), "{text}");
        }
        assert_eq!(size("1024..65536").unwrap().to_string(), "1 KiB..64 KiB");
        assert_eq!(size("1500").unwrap().to_string(), "1500 B");
    }

    #[test]
    fn a_range_of_sizes_is_drawn_log_uniformly() {
        let sizes: SizeRange = "1KiB..64KiB".parse().unwrap();
        let mut random = Random::new(7);
        let drawn: Vec<u64> = (0..60_000).map(|_| sizes.pick(&mut random)).collect();
        assert!(drawn.iter().all(|size| (1024..=65_536).contains(size)));
        for doubling in 0..6 {
            let from = 1024u64 << doubling;
            let count = drawn
                .iter()
                .filter(|&&size| (from..from * 2).contains(&size))
                .count();
            assert!((9_300..10_700).contains(&count), "{count} from {from}");
        }
    }

    #[test]
    fn durations_have_units() {
        assert_eq!(parse_duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("1.5m"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("3"), Ok(Duration::from_secs(3)));
        for text in ["", "s", "1d", "-1s", "1..2s", "99999999999999999999999h"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        assert!(parse_rate("0").is_err() && parse_rate("inf").is_err());
        assert_eq!(parse_rate("1500.5"), Ok(1500.5));
    }
}
