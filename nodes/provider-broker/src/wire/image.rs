//! Images as they come: in base64, of a kind that their bytes tell.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use callboard_domain::llm::{Error, ErrorKind};

/// The image of a base64 text, which may be a data URL, and its media type. What a provider says of the type is not
/// taken: some say PNG of a JPEG.
///
/// # Errors
/// If it is no base64, or no image of a known kind.
pub(crate) fn image(text: &str) -> Result<(Bytes, &'static str), Error> {
    let bad = |what: String| Error::new(ErrorKind::MalformedAnswer, what);
    let base64 = text.split_once(";base64,").map_or(text, |(_, rest)| rest);
    let data = STANDARD.decode(base64.trim()).map_err(|e| bad(format!("the image is no base64: {e}")))?;
    let media_type = media_type(&data).ok_or_else(|| bad("the image is no PNG, JPEG, WebP or GIF".into()))?;
    Ok((data.into(), media_type))
}

fn media_type(data: &[u8]) -> Option<&'static str> {
    match data {
        [0x89, b'P', b'N', b'G', ..] => Some("image/png"),
        [0xff, 0xd8, 0xff, ..] => Some("image/jpeg"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("image/webp"),
        [b'G', b'I', b'F', b'8', ..] => Some("image/gif"),
        _ => None,
    }
}
