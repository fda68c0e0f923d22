//! JSON in which nothing gets lost: an element that is there twice is refused, instead of the last one winning.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, Visitor},
};

/// A JSON value.
#[derive(Debug, PartialEq)]
pub(super) enum Json {
    /// A string.
    Text(String),
    /// An array.
    List(Vec<Json>),
    /// An object: its members, each once.
    Map(Vec<(String, Json)>),
    /// A number, true, false or null: no policy has one.
    Other,
}

impl Json {
    /// The members of an object.
    pub(super) fn members(self, what: &str) -> Result<Vec<(String, Self)>, String> {
        match self {
            Self::Map(members) => Ok(members),
            _ => Err(format!("{what} is no object")),
        }
    }

    /// A string.
    pub(super) fn text(self, what: &str) -> Result<String, String> {
        match self {
            Self::Text(text) => Ok(text),
            _ => Err(format!("{what} is no string")),
        }
    }

    /// A string, or an array of at least one.
    pub(super) fn texts(self, what: &str) -> Result<Vec<String>, String> {
        let list = match self {
            Self::Text(text) => return Ok(vec![text]),
            Self::List(list) => list,
            _ => return Err(format!("{what} is neither a string nor a list of them")),
        };
        if list.is_empty() {
            return Err(format!(
                "{what} is empty, so the statement would never hold"
            ));
        }
        list.into_iter().map(|one| one.text(what)).collect()
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyJson)
    }
}

struct AnyJson;

impl<'de> Visitor<'de> for AnyJson {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.to_owned()))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(value) = array.next_element()? {
            list.push(value);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Json, A::Error> {
        let mut members: Vec<(String, Json)> = Vec::new();
        while let Some((name, value)) = object.next_entry::<String, Json>()? {
            if members.iter().any(|(other, _)| *other == name) {
                return Err(de::Error::custom(format!("{name:?} is there twice")));
            }
            members.push((name, value));
        }
        Ok(Json::Map(members))
    }
}
