use std::fs;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::symlink;

use skein_weights::bytes::Folder;
use skein_weights::split::Sink;

use super::*;

#[test]
fn lists_and_reads_files() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("b.bin"), b"0123456789").unwrap();
    fs::write(dir.path().join("a.json"), b"{}").unwrap();
    fs::create_dir(dir.path().join("sub")).unwrap();
    let folder = FsFolder::open(dir.path()).unwrap();
    assert_eq!(folder.names().unwrap(), ["a.json", "b.bin"]);
    let file = folder.open("b.bin").unwrap();
    assert_eq!(file.len(), 10);
    let mut out = [0; 4];
    file.read_at(6, &mut out).unwrap();
    assert_eq!(&out, b"6789");
    for offset in [7, 10, u64::MAX] {
        assert_eq!(
            file.read_at(offset, &mut out).unwrap_err().kind(),
            ErrorKind::UnexpectedEof
        );
    }
}

#[test]
fn refuses_what_is_not_a_plain_file_of_the_folder() {
    let dir = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), b"s").unwrap();
    fs::write(dir.path().join("plain"), b"p").unwrap();
    fs::create_dir(dir.path().join("sub")).unwrap();
    symlink(outside.path().join("secret"), dir.path().join("leaves")).unwrap();
    symlink("plain", dir.path().join("stays")).unwrap();
    symlink("gone", dir.path().join("dangling")).unwrap();
    symlink("loop", dir.path().join("loop")).unwrap();
    let folder = FsFolder::open(dir.path()).unwrap();
    let cases = [
        ("absent", ErrorKind::NotFound),
        ("dangling", ErrorKind::NotFound),
        ("leaves", ErrorKind::PermissionDenied),
        ("sub", ErrorKind::PermissionDenied),
        ("", ErrorKind::InvalidInput),
        (".", ErrorKind::InvalidInput),
        ("..", ErrorKind::InvalidInput),
        ("../secret", ErrorKind::InvalidInput),
        ("sub/x", ErrorKind::InvalidInput),
        ("plain/", ErrorKind::InvalidInput),
        ("/etc/passwd", ErrorKind::InvalidInput),
        ("a\\b", ErrorKind::InvalidInput),
        ("a\0b", ErrorKind::InvalidInput),
    ];
    for (name, kind) in cases {
        assert_eq!(folder.open(name).unwrap_err().kind(), kind, "{name:?}");
    }
    assert!(folder.open("loop").is_err());
    assert_eq!(folder.open("stays").unwrap().len(), 1);
    let text = folder.open("leaves").unwrap_err().to_string();
    assert!(text.contains("leaves"), "{text}");
}

#[test]
fn links_into_a_named_root_are_followed() {
    let cache = tempfile::tempdir().unwrap();
    let (blobs, snapshot) = (
        cache.path().join("blobs"),
        cache.path().join("snapshots/abc"),
    );
    fs::create_dir_all(&blobs).unwrap();
    fs::create_dir_all(&snapshot).unwrap();
    fs::write(blobs.join("1234"), b"weights").unwrap();
    symlink("../../blobs/1234", snapshot.join("model.safetensors")).unwrap();
    let strict = FsFolder::open(&snapshot).unwrap();
    let denied = strict.open("model.safetensors").unwrap_err();
    assert_eq!(denied.kind(), ErrorKind::PermissionDenied);
    let folder = FsFolder::open_within(&snapshot, cache.path()).unwrap();
    assert_eq!(folder.names().unwrap(), ["model.safetensors"]);
    assert_eq!(folder.open("model.safetensors").unwrap().len(), 7);
}

#[test]
fn a_missing_folder_is_named() {
    let text = FsFolder::open(Path::new("/no/such/folder"))
        .unwrap_err()
        .to_string();
    assert!(text.contains("/no/such/folder"), "{text}");
}

#[test]
fn a_file_appears_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out");
    fs::write(&path, b"old").unwrap();
    let mut file = AtomicFile::create(dir.path(), "out").unwrap();
    file.write_all(b"half").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"old");
    drop(file);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    let mut file = AtomicFile::create(dir.path(), "out").unwrap();
    file.write_all(b"new").unwrap();
    file.commit().unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"new");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    assert!(AtomicFile::create(dir.path(), "../out").is_err());
}

#[test]
fn a_folder_takes_files_as_a_sink() {
    let dir = tempfile::tempdir().unwrap();
    let folder = FsFolder::create(&dir.path().join("new/model")).unwrap();
    let mut file = Sink::create(&folder, "part").unwrap();
    file.append(b"one ").unwrap();
    file.append(b"two").unwrap();
    assert!(
        folder.names().unwrap().is_empty(),
        "unfinished files are not listed"
    );
    file.finish().unwrap();
    assert_eq!(folder.names().unwrap(), ["part"]);
    assert_eq!(Folder::open(&folder, "part").unwrap().len(), 7);
    drop(Sink::create(&folder, "part").unwrap());
    let kept = Folder::open(&folder, "part").unwrap().len();
    assert_eq!(kept, 7, "given up, so the old one stays");
    folder.remove("part").unwrap();
    folder.remove("part").unwrap();
    assert!(folder.names().unwrap().is_empty());
    assert!(Sink::create(&folder, "../part").is_err() && folder.remove("..").is_err());
}

#[test]
fn a_planted_link_is_not_written_through() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("victim"), b"keep").unwrap();
    symlink("victim", dir.path().join(".out.partial")).unwrap();
    let mut file = AtomicFile::create(dir.path(), "out").unwrap();
    file.write_all(b"new").unwrap();
    file.commit().unwrap();
    assert_eq!(fs::read(dir.path().join("victim")).unwrap(), b"keep");
    assert_eq!(fs::read(dir.path().join("out")).unwrap(), b"new");
}

#[test]
fn a_lock_is_exclusive_until_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lock");
    let held = LockFile::take(&path).unwrap();
    assert!(matches!(
        LockFile::take(&path),
        Err(LockError::Taken { .. })
    ));
    drop(held);
    LockFile::take(&path).unwrap();
    assert!(matches!(
        LockFile::take(&dir.path().join("no/lock")),
        Err(LockError::Io { .. })
    ));
}

#[test]
fn a_scratch_file_has_no_name_and_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let file = ScratchFile::create(dir.path()).unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    let link = "/proc/self/fd";
    let own = fs::read_dir(link).unwrap().find_map(|entry| {
        let path = entry.unwrap().path();
        let target = fs::read_link(&path).ok()?;
        target.starts_with(dir.path()).then_some(path)
    });
    let mode = fs::metadata(own.unwrap()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    file.write_at(1 << 20, b"behind a hole").unwrap();
    file.write_at(3, b"early").unwrap();
    let mut out = [0; 5];
    file.read_at(3, &mut out).unwrap();
    assert_eq!(&out, b"early");
    file.read_at((1 << 20) + 7, &mut out).unwrap();
    assert_eq!(&out, b"a hol");
    let beyond = file.read_at((1 << 20) + 9, &mut out).unwrap_err();
    assert_eq!(beyond.kind(), ErrorKind::UnexpectedEof);
    let absent = ScratchFile::create(&dir.path().join("absent")).unwrap_err();
    assert_eq!(absent.kind(), ErrorKind::NotFound);
}
