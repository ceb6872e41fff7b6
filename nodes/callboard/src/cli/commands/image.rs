//! `image`: an image straight from the providers.

use super::artifact::Partial;
use super::{generate, input};
use crate::cli::args::ImageArgs;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::output::{self, json, style};
use callboard_client::v1;

pub(super) async fn run(context: &mut Context, args: ImageArgs) -> Result<(), Failure> {
    // An image costs: whether it can be shown is looked at before.
    if context.out.is_terminal() && context.out.file().is_none() && !context.out.is_json() {
        let what = "an image is binary and standard output is a terminal: name a file with --output FILE";
        return Err(Failure::Usage(what.into()));
    }
    let prompt = input::text(&args.prompt).await?;
    let ((width, height), provider) = (args.size, args.provider.unwrap_or_default());
    let request = v1::GenerateImageRequest { prompt, width, height, provider, ..Default::default() };
    // So is whether it can be written.
    let path = context.out.file().filter(|_| !context.out.is_json());
    let file = path.map(|path| Ok::<_, Failure>((Partial::create(&path)?, path))).transpose()?;
    let image = context.client.generate_image(request).await?;
    if context.out.is_json() {
        return context.out.document(&json::Image::from(&image));
    }
    match file {
        Some((mut file, path)) => {
            file.write(&image.data)?;
            file.finish()?;
            output::wrote(&path, image.data.len() as u64, &style::clean(&image.media_type));
        }
        None => context.out.bytes(&image.data)?,
    }
    generate::told(context, image.summary.as_ref(), false);
    Ok(())
}
