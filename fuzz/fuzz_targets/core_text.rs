//! Text forms: what parses prints as something that parses to the same, and equal things print alike.
#![no_main]

use std::fmt::Display;
use std::str::FromStr;

use comity_core::text::Form;
use comity_core::{Address, AgentId, CheckedHandle, Handle, Hash, OverlayId, Sha256Digest};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|data: &[u8]| {
    if let Ok(key) = <&[u8; 32]>::try_from(data) {
        from_key(key);
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    parsed::<AgentId>(text);
    parsed::<Address>(text);
    parsed::<Handle>(text);
    parsed::<CheckedHandle>(text);
    parsed::<OverlayId>(text);
    parsed::<Hash>(text);
    parsed::<Sha256Digest>(text);
    for form in Form::ALL {
        if let Ok(key) = form.decode(text) {
            assert_eq!(form.decode(&form.encode(&key)), Ok(key), "{}", form.name());
            assert_eq!(
                Form::detect(text),
                Some(form),
                "what a form decodes is recognised as that form: {text:?}"
            );
        }
    }
});

fn parsed<T: FromStr<Err: Display> + Display + PartialEq + std::fmt::Debug>(text: &str)
where
    T: serde_like::Serde,
{
    match text.parse::<T>() {
        Ok(value) => {
            let printed = value.to_string();
            assert_eq!(
                printed.parse::<T>().ok().as_ref(),
                Some(&value),
                "{printed:?} printed from {text:?}"
            );
            assert_eq!(
                serde_like::read::<T>(&Value::from(printed.as_str())).as_ref(),
                Some(&value)
            );
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn from_key(bytes: &[u8; 32]) {
    for form in Form::ALL {
        let text = form.encode(bytes);
        assert_eq!(form.decode(&text).as_ref(), Ok(bytes), "{text}");
        assert_eq!(Form::detect(&text), Some(form));
        // Letter case carries no meaning in the case-insensitive forms and must not change it in the others.
        if let Ok(key) = form.decode(&text.to_uppercase()) {
            assert_eq!(key, *bytes, "{text}");
        }
    }
    let Ok(agent) = AgentId::from_bytes(bytes) else { return };
    assert_eq!(agent.as_bytes(), bytes);
    for form in Form::ALL {
        assert_eq!(agent.to_text(form).parse::<AgentId>().ok(), Some(agent));
    }
    let id = OverlayId(*bytes);
    assert!(
        id.address().matches(&id) && id.handle().matches(&id) && id.checked_handle().matches(&id)
    );
}

/// Reading through serde, as files and the local API do.
mod serde_like {
    use serde_json::Value;

    pub(crate) trait Serde: Sized {
        fn from_value(value: &Value) -> Option<Self>;
    }

    macro_rules! serde {
        ($($name:ident),+) => {
            $(impl Serde for comity_core::$name {
                fn from_value(value: &Value) -> Option<Self> {
                    serde_json::from_value(value.clone()).ok()
                }
            })+
        };
    }
    serde!(AgentId, Address, Handle, CheckedHandle, OverlayId, Hash, Sha256Digest);

    pub(crate) fn read<T: Serde>(value: &Value) -> Option<T> {
        T::from_value(value)
    }
}
