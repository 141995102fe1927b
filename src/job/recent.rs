//! The archives of the newest jobs, without opening all of them.

use std::collections::BTreeMap;

use crate::folder::{Folder, FolderError, layout};

/// Names below `.archive/jobs` of the newest `limit` jobs, the newest first.
///
/// # Errors
/// When the folder refuses.
pub async fn archives(folder: &Folder, limit: usize) -> Result<Vec<String>, FolderError> {
    let mut days: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for name in folder.store().list(layout::BY_DATE).await? {
        // `job_<id>_<date>.json`
        let day = name.rsplit('_').next().unwrap_or_default().to_owned();
        days.entry(day).or_default().push(name);
    }
    let mut newest = Vec::new();
    for names in days.into_values().rev() {
        let mut of_day = Vec::with_capacity(names.len());
        for name in names {
            let stat = folder.store().stat(&format!("{}/{name}", layout::BY_DATE)).await?;
            of_day.extend(stat.map(|stat| (stat.modified, name)));
        }
        of_day.sort_by(|a, b| b.cmp(a));
        newest.extend(of_day.into_iter().map(|(_, name)| name));
        if newest.len() >= limit {
            break;
        }
    }
    newest.truncate(limit);
    Ok(newest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_newest_come_first_whatever_their_names() {
        let root = std::env::temp_dir().join(format!("adu-recent-{}", uuid::Uuid::new_v4()));
        let folder = Folder::init(root.clone(), None).await.expect("a folder");
        let names = [
            "job_z_2026-11-20.json",
            "job_m_2026-11-21.json",
            "job_a_2026-11-21.json",
            "job_b_x_2026-11-21.json",
        ];
        for (age, name) in names.iter().enumerate() {
            let file = std::fs::File::create(root.join(layout::BY_DATE).join(name)).expect("created");
            let at = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000 + age as u64);
            file.set_modified(at).expect("a time");
        }
        let found = archives(&folder, 2).await.expect("listed");
        assert_eq!(found, ["job_b_x_2026-11-21.json", "job_a_2026-11-21.json"]);
        assert_eq!(archives(&folder, 9).await.expect("listed").len(), 4);
        std::fs::remove_dir_all(root).expect("removed");
    }
}
