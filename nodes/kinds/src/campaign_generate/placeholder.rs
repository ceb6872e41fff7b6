//! The image of a campaign that no provider painted. It says so, so that nobody mistakes it for art.
//!
//! Deterministic: the same product gives the same bytes, and so the same artifact on every attempt.

use bytes::Bytes;
use callboard_sdk::Failure;
use embedded_graphics::Drawable;
use embedded_graphics::mono_font::MonoTextStyle;
use embedded_graphics::mono_font::iso_8859_1::{FONT_9X15, FONT_9X15_BOLD};
use embedded_graphics::pixelcolor::Gray8;
use embedded_graphics::prelude::{DrawTarget, GrayColor, OriginDimensions, Pixel, Point, Primitive, Size};
use embedded_graphics::primitives::{Line, PrimitiveStyle, Rectangle};
use embedded_graphics::text::{Alignment, Text};
use std::convert::Infallible;

/// The side of the drawing. Fonts end at 20 pixels, so it is drawn small and every point becomes
/// [`SCALE`] x [`SCALE`] pixels.
const SIDE: u32 = 512;
const SCALE: u32 = 2;

const PAPER: Gray8 = Gray8::new(0xe8);
const GRID: Gray8 = Gray8::new(0xd0);
const INK: Gray8 = Gray8::new(0x30);

/// What it says.
const NOTICE: &str = "PLACEHOLDER - no image provider answered";
/// The most characters of a line, and the most lines, of the product's name.
const LINE_CHARS: usize = 44;
const LINES: usize = 4;

/// Draws it as a PNG.
pub(super) fn draw(product: &str) -> Result<Bytes, Failure> {
    let mut canvas = Canvas { points: vec![PAPER.luma(); (SIDE * SIDE) as usize] };
    let Ok(()) = paint(&mut canvas, product);
    encode(&canvas).map_err(|e| Failure::permanent(format!("the placeholder could not be encoded: {e}")))
}

fn paint(canvas: &mut Canvas, product: &str) -> Result<(), Infallible> {
    let (side, middle) = (SIDE as i32, SIDE as i32 / 2);
    for offset in (-side..side).step_by(32) {
        Line::new(Point::new(offset, 0), Point::new(offset + side, side))
            .into_styled(PrimitiveStyle::with_stroke(GRID, 1))
            .draw(canvas)?;
    }
    Rectangle::new(Point::new(16, 16), Size::new(SIDE - 32, SIDE - 32))
        .into_styled(PrimitiveStyle::with_stroke(INK, 2))
        .draw(canvas)?;
    let text = MonoTextStyle::new(&FONT_9X15_BOLD, INK);
    Text::with_alignment(NOTICE, Point::new(middle, middle - 32), text, Alignment::Center).draw(canvas)?;
    let text = MonoTextStyle::new(&FONT_9X15, INK);
    for (i, line) in (0..).zip(wrap(product)) {
        let at = Point::new(middle, middle + 8 + i * 20);
        Text::with_alignment(&line, at, text, Alignment::Center).draw(canvas)?;
    }
    Ok(())
}

/// The text in lines that fit, broken at spaces where there are any; what is too much is cut.
fn wrap(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let (mut line, mut used) = (String::new(), 0);
    for word in text.split_whitespace() {
        for (i, piece) in word.chars().collect::<Vec<_>>().chunks(LINE_CHARS).enumerate() {
            let space = usize::from(i == 0 && used > 0);
            if used + space + piece.len() > LINE_CHARS {
                if lines.len() + 1 == LINES {
                    lines.push(line.chars().take(LINE_CHARS - 3).chain("...".chars()).collect());
                    return lines;
                }
                lines.push(std::mem::take(&mut line));
                used = 0;
            } else if space > 0 {
                line.push(' ');
                used += 1;
            }
            line.extend(piece);
            used += piece.len();
        }
    }
    lines.push(line);
    lines
}

struct Canvas {
    points: Vec<u8>,
}

impl OriginDimensions for Canvas {
    fn size(&self) -> Size {
        Size::new(SIDE, SIDE)
    }
}

impl DrawTarget for Canvas {
    type Color = Gray8;
    type Error = Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<Gray8>>>(&mut self, pixels: I) -> Result<(), Infallible> {
        for Pixel(at, color) in pixels {
            let (Ok(x), Ok(y)) = (u32::try_from(at.x), u32::try_from(at.y)) else { continue };
            if x < SIDE && y < SIDE {
                self.points[(y * SIDE + x) as usize] = color.luma();
            }
        }
        Ok(())
    }
}

fn encode(canvas: &Canvas) -> Result<Bytes, png::EncodingError> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, SIDE * SCALE, SIDE * SCALE);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Eight);
    let mut pixels = Vec::with_capacity((SIDE * SIDE * SCALE * SCALE) as usize);
    for row in canvas.points.chunks(SIDE as usize) {
        for _ in 0..SCALE {
            pixels.extend(row.iter().flat_map(|point| std::iter::repeat_n(*point, SCALE as usize)));
        }
    }
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&pixels)?;
    writer.finish()?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(file: &[u8]) -> (u32, u32, Vec<u8>) {
        let mut reader = png::Decoder::new(std::io::Cursor::new(file)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        (info.width, info.height, pixels)
    }

    #[test]
    fn it_is_a_small_png_that_holds_the_notice_and_the_product() {
        let file = draw("Nightlight").unwrap();
        assert!(file.len() < 64 << 10, "{} bytes", file.len());
        let (width, height, pixels) = decode(&file);
        assert_eq!((width, height), (1024, 1024));

        // The rows of the notice and of the product hold ink between the frame's edges.
        let ink = |rows: std::ops::Range<usize>| {
            rows.flat_map(|y| &pixels[y * 1024 + 64..y * 1024 + 960]).filter(|p| **p == INK.luma()).count()
        };
        assert!(ink(430..455) > 1000, "{}", ink(430..455));
        assert!(ink(510..535) > 200, "{}", ink(510..535));
        assert_eq!(ink(600..900), 0);
    }

    #[test]
    fn the_same_product_gives_the_same_bytes_and_another_gives_others() {
        assert_eq!(draw("Nightlight").unwrap(), draw("Nightlight").unwrap());
        assert_ne!(draw("Nightlight").unwrap(), draw("Daylight").unwrap());
    }

    #[test]
    fn any_product_can_be_drawn() {
        for product in
            ["", "日本語の舞台照明", "a\u{0301} b\n\tc", &"x".repeat(5_000), &"word ".repeat(5_000)]
        {
            let (width, ..) = decode(&draw(product).unwrap());
            assert_eq!(width, 1024);
        }
    }

    #[test]
    fn lines_break_at_spaces_and_the_rest_is_cut() {
        assert_eq!(wrap("a lamp"), ["a lamp"]);
        let lines = wrap(&"lamp ".repeat(100));
        assert_eq!(lines.len(), LINES);
        assert!(lines.iter().all(|l| l.chars().count() <= LINE_CHARS && l.starts_with("lamp")));
        assert!(lines[LINES - 1].ends_with("..."), "{lines:?}");
        let long = "x".repeat(LINE_CHARS + 1);
        assert_eq!(wrap(&long), ["x".repeat(LINE_CHARS), "x".to_owned()]);
    }
}
