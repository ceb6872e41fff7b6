//! Placeholder images: a PNG that says what it is.

use embedded_graphics::mono_font::iso_8859_1::{FONT_4X6, FONT_6X10, FONT_10X20};
use embedded_graphics::mono_font::{MonoFont, MonoTextStyle};
use embedded_graphics::pixelcolor::Gray8;
use embedded_graphics::prelude::{
    DrawTarget, Drawable, GrayColor, OriginDimensions, Pixel, Point, Primitive, Size,
};
use embedded_graphics::primitives::{Circle, PrimitiveStyle, Rectangle};
use embedded_graphics::text::{Baseline, Text};
use std::convert::Infallible;

/// What every image says.
const TITLE: &str = "OFFLINE PLACEHOLDER";
/// The most words of the prompt that are shown.
const WORDS: usize = 18;

/// The shades of the background; the palette holds them first.
const SHADES: u8 = 200;
const BUBBLE: u8 = 220;
const BAND: u8 = 221;
const INK: u8 = 222;

/// Draws the placeholder of a prompt. The same arguments give the same bytes.
pub(super) fn draw(prompt: &str, width: u32, height: u32) -> Result<Vec<u8>, png::EncodingError> {
    let mut canvas = Canvas::new(width, height);
    let seed = prompt.bytes().fold(0x811c_9dc5_u32, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193));
    bubbles(&mut canvas, seed);
    captions(&mut canvas, prompt);
    encode(&canvas, seed)
}

/// An image of palette indices. `Gray8` stands for an index.
struct Canvas {
    size: Size,
    indices: Vec<u8>,
}

impl Canvas {
    fn new(width: u32, height: u32) -> Self {
        let mut indices = Vec::with_capacity(width as usize * height as usize);
        for y in 0..height {
            let shade = u64::from(y) * u64::from(SHADES - 1) / u64::from(height.max(1));
            indices.extend(std::iter::repeat_n(shade as u8, width as usize));
        }
        Self { size: Size::new(width, height), indices }
    }

    fn set(&mut self, x: i32, y: i32, index: u8) {
        let (Ok(x), Ok(y)) = (u32::try_from(x), u32::try_from(y)) else { return };
        if x < self.size.width && y < self.size.height {
            self.indices[y as usize * self.size.width as usize + x as usize] = index;
        }
    }
}

/// Draws on a canvas with every point `scale` pixels wide and high: fonts end at 20 pixels.
struct Pen<'a> {
    canvas: &'a mut Canvas,
    scale: i32,
}

impl OriginDimensions for Pen<'_> {
    fn size(&self) -> Size {
        self.canvas.size / self.scale.unsigned_abs()
    }
}

impl DrawTarget for Pen<'_> {
    type Color = Gray8;
    type Error = Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<Gray8>>>(&mut self, pixels: I) -> Result<(), Infallible> {
        for Pixel(Point { x, y }, color) in pixels {
            for dy in 0..self.scale {
                for dx in 0..self.scale {
                    self.canvas.set(x * self.scale + dx, y * self.scale + dy, color.luma());
                }
            }
        }
        Ok(())
    }
}

fn bubbles(canvas: &mut Canvas, seed: u32) {
    let Size { width, height } = canvas.size;
    for n in 0..3_u32 {
        let random = seed.rotate_left(9 * n + 3);
        let at = Point::new((random % width) as i32, ((random >> 12) % height) as i32);
        let diameter = width.min(height) / (3 + n);
        let style = PrimitiveStyle::with_fill(Gray8::new(BUBBLE));
        let Ok(()) = Circle::with_center(at, diameter)
            .into_styled(style)
            .draw(&mut Pen { canvas: &mut *canvas, scale: 1 });
    }
}

fn captions(canvas: &mut Canvas, prompt: &str) {
    let side = canvas.size.width.min(canvas.size.height);
    let (font, scale): (&MonoFont<'_>, u32) = match side {
        ..128 => (&FONT_4X6, 1),
        128..256 => (&FONT_6X10, 1),
        _ => (&FONT_10X20, (side / 400).max(1)),
    };
    let mut pen = Pen { canvas, scale: scale as i32 };
    let Size { width, height } = pen.size();
    let cell = font.character_size;
    let columns = (width.saturating_sub(2 * cell.width) / cell.width).max(1) as usize;
    let rows = (height / cell.height) as usize;
    let title = wrap(TITLE, columns);
    let mut words: Vec<_> = prompt.split_whitespace().take(WORDS + 1).collect();
    if words.len() > WORDS {
        words[WORDS] = "...";
    }
    let mut text = wrap(&words.join(" "), columns);
    text.truncate(rows.saturating_sub(title.len() + 2));

    let top = (height / 6).min(height.saturating_sub(cell.height * (title.len() + 1) as u32)) as i32;
    let band_height = cell.height * title.len() as u32 + cell.height;
    let band = Rectangle::new(Point::new(0, top), Size::new(width + 1, band_height));
    let Ok(()) = band.into_styled(PrimitiveStyle::with_fill(Gray8::new(BAND))).draw(&mut pen);
    let mut y = top + (cell.height / 2) as i32;
    let style = MonoTextStyle::new(font, Gray8::new(INK));
    let gap = [String::new()];
    for line in title.iter().chain(&gap).chain(&text) {
        let x = (width.saturating_sub(cell.width * line.chars().count() as u32) / 2) as i32;
        let Ok(_) = Text::with_baseline(line, Point::new(x, y), style, Baseline::Top).draw(&mut pen);
        y += cell.height as i32;
    }
}

/// Breaks a text into lines of at most so many characters, at spaces where there are any.
fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let chars: Vec<char> = word.chars().collect();
        for (n, part) in chars.chunks(columns.max(1)).enumerate() {
            match lines.last_mut() {
                Some(line) if n == 0 && line.chars().count() + 1 + part.len() <= columns => {
                    line.push(' ');
                    line.extend(part);
                }
                _ => lines.push(part.iter().collect()),
            }
        }
    }
    lines
}

/// The colours: a fade between two hues of the prompt, and the three that are drawn with.
fn palette(seed: u32) -> Vec<u8> {
    let hue = |shift: u32| {
        let random = seed.rotate_right(shift);
        [(random & 0x7f) as u8 + 32, ((random >> 8) & 0x7f) as u8 + 32, ((random >> 16) & 0x7f) as u8 + 64]
    };
    let (from, to) = (hue(0), hue(13));
    let mut colors = Vec::with_capacity(3 * 256);
    for n in 0..=u8::MAX {
        let fade = |c: usize| {
            let (a, b, n) = (u32::from(from[c]), u32::from(to[c]), u32::from(n.min(SHADES)));
            ((a * (u32::from(SHADES) - n) + b * n) / u32::from(SHADES)) as u8
        };
        colors.extend(match n {
            BUBBLE => [0, 1, 2].map(|c| from[c].saturating_add(40)),
            BAND => [16, 16, 24],
            INK => [250, 250, 245],
            _ => [0, 1, 2].map(fade),
        });
    }
    colors
}

fn encode(canvas: &Canvas, seed: u32) -> Result<Vec<u8>, png::EncodingError> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, canvas.size.width, canvas.size.height);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_palette(palette(seed));
    encoder.set_compression(png::Compression::Fast);
    encoder.add_text_chunk("Comment".into(), "offline placeholder, no model was called".into())?;
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&canvas.indices)?;
    writer.finish()?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_at_spaces_and_long_words_anywhere() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("abcdefgh ij", 3), ["abc", "def", "gh", "ij"]);
        assert_eq!(wrap(" ", 3), [""; 0]);
    }

    #[test]
    fn an_image_has_its_size_and_its_prompt() {
        for (width, height) in [(64, 64), (64, 2048), (2048, 64), (200, 150), (1024, 768)] {
            let bytes = draw("A lamp at night, für alle 日本", width, height).unwrap();
            let decoder = png::Decoder::new(std::io::Cursor::new(&bytes));
            let mut reader = decoder.read_info().unwrap();
            assert_eq!((reader.info().width, reader.info().height), (width, height));
            let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
            reader.next_frame(&mut pixels).unwrap();
            assert!(pixels.contains(&INK) && pixels.contains(&BAND));
            assert_eq!(bytes, draw("A lamp at night, für alle 日本", width, height).unwrap());
            assert_ne!(bytes, draw("A lamp by day", width, height).unwrap());
        }
    }
}
