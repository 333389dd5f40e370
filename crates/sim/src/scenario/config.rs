//! The machine's parameters in a scenario file: those that differ from the default, by name.

use std::fmt;

use comity_overlay::Config;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};

use super::units::{duration_text, parse_duration};

/// A value of a parameter as a file holds it.
#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Raw {
    Flag(bool),
    Number(u64),
    Text(String),
}

/// A parameter's type: how it is read and written.
trait Parameter: PartialEq + Sized {
    fn read(raw: Raw) -> Result<Self, String>;
    fn write(&self) -> serde_json::Value;
}

impl Parameter for std::time::Duration {
    fn read(raw: Raw) -> Result<Self, String> {
        match raw {
            Raw::Text(text) => parse_duration(&text),
            Raw::Number(_) | Raw::Flag(_) => {
                Err("it is a duration: write it with a unit, such as \"90s\"".to_owned())
            }
        }
    }

    fn write(&self) -> serde_json::Value {
        duration_text(*self).into()
    }
}

macro_rules! numbers {
    ($($kind:ty),+) => {
        $(impl Parameter for $kind {
            fn read(raw: Raw) -> Result<Self, String> {
                match raw {
                    Raw::Number(number) => Self::try_from(number).map_err(|error| error.to_string()),
                    Raw::Flag(_) | Raw::Text(_) => Err("it is a whole number".to_owned()),
                }
            }

            fn write(&self) -> serde_json::Value {
                (*self).into()
            }
        })+
    };
}

numbers!(usize, u32, u64, u8);

impl Parameter for bool {
    fn read(raw: Raw) -> Result<Self, String> {
        match raw {
            Raw::Flag(flag) => Ok(flag),
            Raw::Number(_) | Raw::Text(_) => Err("it is true or false".to_owned()),
        }
    }

    fn write(&self) -> serde_json::Value {
        (*self).into()
    }
}

macro_rules! parameters {
    ($($name:ident),+ $(,)?) => {
        /// Names of the parameters that a scenario may change.
        pub const CONFIG_PARAMETERS: &[&str] = &[$(stringify!($name)),+];

        fn set(config: &mut Config, name: &str, raw: Raw) -> Result<(), String> {
            match name {
                $(stringify!($name) => {
                    config.$name = Parameter::read(raw).map_err(|why| format!("config.{name}: {why}"))?;
                    Ok(())
                })+
                _ => Err(format!("config has no parameter `{name}`: use one of {}", CONFIG_PARAMETERS.join(", "))),
            }
        }

        fn changed(config: &Config) -> Vec<(&'static str, serde_json::Value)> {
            let default = Config::default();
            let mut changed = Vec::new();
            $(if config.$name != default.$name {
                changed.push((stringify!($name), config.$name.write()));
            })+
            changed
        }
    };
}

parameters!(
    alpha,
    alpha_failing,
    find_paths,
    find_path_k,
    store_paths,
    store_path_k,
    holders,
    refresh_k,
    soft_timeout_min,
    hard_timeout,
    hard_timeout_failing,
    lookup_deadline,
    refresh_after,
    refresh_after_min,
    ping_after,
    ping_after_min,
    maintenance_every,
    republish_max,
    republish_min,
    estimate_samples,
    estimate_samples_join,
    estimate_every,
    query_custodians,
    query_keys_parallel,
    query_deadline,
    custody_bytes_max,
    shard_digests,
    report_every,
    reconcile_every,
);

struct ConfigVisitor;

impl<'de> Visitor<'de> for ConfigVisitor {
    type Value = Config;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("parameters of the overlay by name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Config, A::Error> {
        let mut config = Config::default();
        while let Some((name, raw)) = map.next_entry::<String, Raw>()? {
            set(&mut config, &name, raw).map_err(de::Error::custom)?;
        }
        Ok(config)
    }
}

/// The parameters that differ from the default.
///
/// # Errors
/// Those of the serializer.
pub(super) fn serialize<S: Serializer>(config: &Config, to: S) -> Result<S::Ok, S::Error> {
    let changed = changed(config);
    let mut map = to.serialize_map(Some(changed.len()))?;
    for (name, value) in &changed {
        map.serialize_entry(name, value)?;
    }
    map.end()
}

/// The default with the parameters that are named.
///
/// # Errors
/// Names an unknown parameter and those there are.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Config, D::Error> {
    from.deserialize_map(ConfigVisitor)
}
