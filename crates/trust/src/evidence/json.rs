//! JSON of strangers: its size and depth are looked at before anything is built from it.

use super::AppraisalError;

/// Deepest nesting of arrays and objects that is read. Bundles and statements in use have seven levels at most.
pub const MAX_JSON_DEPTH: usize = 24;

/// Checks that JSON has at most `max` bytes and nests at most [`MAX_JSON_DEPTH`] deep, in one pass that builds nothing. Whether it is JSON
/// at all is the parser's to say.
///
/// # Errors
/// [`AppraisalError::Malformed`].
pub fn check_json(bytes: &[u8], max: usize) -> Result<(), AppraisalError> {
    if bytes.len() > max {
        let text = format!("{} bytes of JSON, and at most {max} are read", bytes.len());
        return Err(AppraisalError::Malformed(text));
    }
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'[' | b'{' if !quoted => {
                depth += 1;
                if depth > MAX_JSON_DEPTH {
                    let text = format!("JSON nested deeper than {MAX_JSON_DEPTH} levels");
                    return Err(AppraisalError::Malformed(text));
                }
            }
            b']' | b'}' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}
