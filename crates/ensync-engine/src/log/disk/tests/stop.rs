//! Stopped between any two changes of files: by a kill, which leaves what was written, and by a loss of power, which leaves what was
//! synced and parts of the rest.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::sync::{Mutex, MutexGuard};

use bytes::Bytes;

use super::super::folder::Folder;
use super::*;

/// A disk of which is known what a loss of power leaves.
#[derive(Debug, Default)]
struct Model {
    /// By inode: the file, kept open so that its number is not used again, and what was in it when it was synced.
    files: HashMap<u64, (File, Vec<u8>)>,
    /// The names, as they were synced, and after each change since.
    names: Vec<HashMap<OsString, u64>>,
}

/// Stops for good after so many changes.
#[derive(Debug)]
struct Stopping {
    path: PathBuf,
    left: Mutex<usize>,
    model: Mutex<Model>,
}

impl Stopping {
    fn after(left: usize, path: PathBuf) -> Self {
        Self { path, left: Mutex::new(left), model: Mutex::default() }
    }

    /// One change at a time, for the names are listed after each.
    fn step(&self) -> io::Result<MutexGuard<'_, usize>> {
        let mut left = self.left.lock().unwrap();
        *left = left.checked_sub(1).ok_or_else(|| io::Error::other("stopped"))?;
        Ok(left)
    }

    fn names(&self) -> HashMap<OsString, u64> {
        let entries = fs::read_dir(&self.path).unwrap().map(Result::unwrap);
        let ours = entries.filter(|entry| entry.file_name() != "lock");
        ours.map(|entry| (entry.file_name(), entry.metadata().unwrap().ino())).collect()
    }

    fn renamed(&self) {
        self.model.lock().unwrap().names.push(self.names());
    }

    fn synced(&self, file: &File) {
        let bytes = content(file);
        let kept = || (file.try_clone().unwrap(), Vec::new());
        self.model.lock().unwrap().files.entry(file.metadata().unwrap().ino()).or_insert_with(kept).1 = bytes;
    }

    /// Leaves what a loss of power may leave.
    fn cut(&self, random: &mut fastrand::Rng, least: bool) {
        let model = self.model.lock().unwrap();
        let names = if least { model.names.first() } else { random.choice(&model.names) };
        let Some(names) = names else { return };
        let left: Vec<_> = names
            .iter()
            .map(|(name, inode)| {
                let (file, old) = &model.files[inode];
                let now = content(file);
                let mut bytes = if least { old.clone() } else { now.clone() };
                for (at, sector) in bytes.chunks_mut(512).enumerate() {
                    let from = if least || random.bool() { old } else { &now };
                    let from = from.get(at * 512..).unwrap_or_default();
                    for (at, byte) in sector.iter_mut().enumerate() {
                        *byte = from.get(at).copied().unwrap_or(0);
                    }
                }
                (name.clone(), bytes)
            })
            .collect();
        for name in self.names().into_keys() {
            fs::remove_file(self.path.join(name)).unwrap();
        }
        for (name, bytes) in left {
            fs::write(self.path.join(name), bytes).unwrap();
        }
    }
}

fn content(mut file: &File) -> Vec<u8> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.read_to_end(&mut bytes).unwrap();
    bytes
}

impl Io for Stopping {
    /// In one order, each time.
    fn meanwhile(&self, work: Box<dyn FnOnce() + Send>) {
        work();
    }

    fn create(&self, folder: &Folder, path: &Path) -> io::Result<File> {
        let _one = self.step()?;
        let file = SystemIo.create(folder, path)?;
        let kept = (file.try_clone()?, Vec::new());
        self.model.lock().unwrap().files.insert(file.metadata()?.ino(), kept);
        self.renamed();
        Ok(file)
    }

    fn reuse(&self, folder: &Folder, path: &Path) -> io::Result<File> {
        let _one = self.step()?;
        let file = SystemIo.reuse(folder, path)?;
        // What is there is what was synced when it was whole.
        let kept = || (file.try_clone().unwrap(), Vec::new());
        self.model.lock().unwrap().files.entry(file.metadata()?.ino()).or_insert_with(kept);
        self.renamed();
        Ok(file)
    }

    fn preallocate(&self, file: &File, length: u64) -> io::Result<()> {
        let _one = self.step()?;
        SystemIo.preallocate(file, length)
    }

    fn write(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        let _one = self.step().inspect_err(|_| {
            // A kill may come in the middle.
            _ = SystemIo.write(file, &bytes[..bytes.len() / 3], offset);
        })?;
        SystemIo.write(file, bytes, offset)
    }

    fn truncate(&self, file: &File, length: u64) -> io::Result<()> {
        let _one = self.step()?;
        SystemIo.truncate(file, length)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        let _one = self.step()?;
        self.synced(file);
        Ok(())
    }

    fn sync_all(&self, file: &File) -> io::Result<()> {
        self.sync(file)
    }

    fn rename(&self, folder: &Folder, from: &Path, to: &Path) -> io::Result<()> {
        let _one = self.step()?;
        SystemIo.rename(folder, from, to)?;
        self.renamed();
        Ok(())
    }

    fn remove(&self, folder: &Folder, path: &Path) -> io::Result<()> {
        let _one = self.step()?;
        SystemIo.remove(folder, path)?;
        self.renamed();
        Ok(())
    }

    fn sync_directory(&self, _: &Folder) -> io::Result<()> {
        let _one = self.step()?;
        let names = self.names();
        self.model.lock().unwrap().names = vec![names];
        Ok(())
    }
}

/// Files that are never synced, which is quick.
#[derive(Debug)]
struct Unsynced;

impl Io for Unsynced {
    fn sync(&self, _: &File) -> io::Result<()> {
        Ok(())
    }

    fn sync_all(&self, _: &File) -> io::Result<()> {
        Ok(())
    }

    fn sync_directory(&self, _: &Folder) -> io::Result<()> {
        Ok(())
    }
}

/// What was answered before it stopped.
#[derive(Debug, Default)]
struct Story {
    stored: Vec<(Position, Arc<Record>)>,
    /// Sent and not answered.
    open: Vec<Arc<Record>>,
    saved: Option<Position>,
}

/// Three runs with rolls, checkpoints and retention; the same each time.
async fn live(place: &Place, io: Arc<dyn Io>) -> Story {
    let (mut story, mut random) = (Story::default(), fastrand::Rng::with_seed(7));
    for run in 0..3 {
        let Ok(log) = place.open_with(io.clone()) else { return story };
        for seq in 0..8 {
            let sizes = [300, 12_000, 25_000];
            let batch: Vec<_> =
                (0..random.u64(1..4)).map(|n| large(run * 100 + seq * 10 + n, sizes[random.usize(..3)])).collect();
            match log.store(&batch).await {
                Ok(positions) => story.stored.extend(positions.into_iter().zip(batch)),
                Err(_) => {
                    story.open = batch;
                    return story;
                }
            }
            let last = story.stored.last().unwrap().0;
            if seq % 3 == 2 {
                if log.save_checkpoint(last, vec![Bytes::from(last.to_string())]).await.is_err() {
                    return story;
                }
                story.saved = Some(last);
                if log.drop_range(Position::START, last).await.is_err() {
                    return story;
                }
            }
        }
        log.close().await;
    }
    story
}

async fn check(place: &Place, story: &Story, which: &str) {
    let log = place.open_with(Arc::new(Unsynced)).unwrap_or_else(|error| panic!("{which}: {error}"));
    let found = scanned(&log, Position::START).await;
    let checkpoint = log.load_checkpoint().await.unwrap();
    let at = checkpoint.as_ref().map_or(Position::START, |(at, _)| *at);
    assert!(Some(at) >= story.saved, "{which}: a checkpoint that was answered");
    assert!(checkpoint.is_none_or(|(at, state)| state == at.to_string()), "{which}");
    // What the checkpoint covers may be gone; what comes after is there, and in order.
    let answered: Vec<_> =
        found.iter().take_while(|(at, _)| story.stored.iter().any(|(stored, _)| stored == at)).collect();
    assert!(story.stored.ends_with(&answered.iter().map(|found| (*found).clone()).collect::<Vec<_>>()), "{which}");
    let needed = story.stored.iter().filter(|(stored, _)| *stored > at).count();
    assert!(answered.len() >= needed, "{which}: {} of {needed}", answered.len());
    let rest: Vec<_> = found.iter().skip(answered.len()).map(|(_, record)| record.clone()).collect();
    assert!(rest.is_empty() || rest == story.open, "{which}: a part of a batch");
    // And it goes on.
    log.store(&[small(1)]).await.unwrap();
}

#[tokio::test]
async fn nothing_that_was_answered_is_lost_wherever_it_stops() {
    let mut last = 0;
    for left in 0.. {
        let mut done = false;
        for (number, power) in ["kill", "power, least", "power"].into_iter().enumerate() {
            let place = Place::quick();
            fs::create_dir_all(place.path()).unwrap();
            let io = Arc::new(Stopping::after(left, place.path()));
            let story = live(&place, io.clone()).await;
            done = *io.left.lock().unwrap() > 0;
            last = story.stored.len();
            let which = format!("stopped after {left} changes, {power} {number}");
            if power != "kill" {
                io.cut(&mut fastrand::Rng::with_seed((left * 3 + number) as u64), power.ends_with("least"));
            }
            check(&place, &story, &which).await;
        }
        if done {
            assert!(left > 150 && last > 30, "{left} changes, {last} records");
            break;
        }
    }
}
