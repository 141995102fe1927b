//! `.latest`: a symbolic link per base name and output directory.

use std::io;

use super::places::owns;
use crate::destination::base_name;
use crate::folder::{Folder, FolderError, layout};
use crate::message::SourceName;
use crate::message::request::OutputDirectory;

/// Points one link at its newest export. True if the link changed.
pub(super) async fn point(
    folder: &Folder,
    output: Option<&OutputDirectory>,
    base: &str,
    newest: &str,
) -> Result<bool, FolderError> {
    let links = layout::latest(output);
    let link = format!("{links}/{base}");
    let target = format!("../{}", layout::name(newest));
    if folder.store().pointed(&link).await?.as_deref() == Some(target.as_str()) {
        return Ok(false);
    }
    // Somebody removed the export by hand: leave the link as it is.
    if folder.store().stat(newest).await?.is_none() {
        return Ok(false);
    }
    match folder.store().point(&link, &target).await {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            folder.store().make_dir(&links).await?;
            folder.store().point(&link, &target).await?;
        }
        pointed => pointed?,
    }
    Ok(true)
}

/// Where the link of a table points. The link has the base name that the table owns.
pub(super) async fn find(
    folder: &Folder,
    of: (&SourceName, &str, &str),
    output: Option<&OutputDirectory>,
) -> Result<Option<String>, FolderError> {
    let (source, schema, table) = of;
    for base in base_name::candidates(source, schema, table) {
        if !owns(folder, source, schema, table, &base).await? {
            continue;
        }
        let link = format!("{}/{base}", layout::latest(output));
        let Some(target) = folder.store().pointed(&link).await? else { continue };
        return Ok(Some(layout::public(output, layout::name(&target))));
    }
    Ok(None)
}
