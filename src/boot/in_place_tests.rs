//! Tests on real files: what is read and written, and what is refused.
#![allow(clippy::unwrap_used)]

use std::fs;

use super::*;

#[test]
fn a_file_is_overwritten_where_it_lies() {
    use std::os::unix::fs::MetadataExt as _;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("block");
    fs::write(&path, [7; 512]).unwrap();
    let inode = fs::metadata(&path).unwrap().ino();
    let mut block = InPlace::new(path.clone(), 512);
    assert_eq!(block.read().unwrap(), [7; 512]);
    write_proved(&mut block, &[9; 512]).unwrap();
    assert_eq!((block.read().unwrap(), fs::read(&path).unwrap()), (vec![9; 512], vec![9; 512]));
    assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
}

#[test]
fn what_has_another_length_is_read_as_it_is_and_not_written() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("block");
    let mut block = InPlace::new(path.clone(), 512);
    assert_eq!(block.read().unwrap_err().kind(), ErrorKind::NotFound);
    assert!(write_proved(&mut block, &[9; 512]).is_err());
    assert!(!path.exists(), "nothing is made");
    for (len, seen) in [(0, 0), (511, 511), (513, 513), (9000, 513)] {
        fs::write(&path, vec![7; len]).unwrap();
        assert_eq!(block.read().unwrap(), vec![7; seen]);
        assert_eq!(write_proved(&mut block, &[9; 512]).unwrap_err(), "is no file of 512 bytes");
        assert_eq!(fs::read(&path).unwrap(), vec![7; len]);
    }
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(write_proved(&mut block, &[9; 512]).is_err());
}

/// A device that fails as it is told.
struct Faulty {
    bytes: Vec<u8>,
    faults: Vec<&'static str>,
    writes: usize,
}

impl Block for Faulty {
    fn read(&mut self) -> io::Result<Vec<u8>> {
        Ok(self.bytes.clone())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.writes += 1;
        match self.faults.pop() {
            Some("lies") => return Ok(()),
            Some(fault) => return Err(io::Error::other(fault)),
            None => bytes.clone_into(&mut self.bytes),
        }
        Ok(())
    }
}

#[test]
fn a_failed_write_is_repeated_whole_and_then_given_up() {
    for (faults, wanted, writes) in [
        (vec![], Ok(()), 1),
        (vec!["lies"], Ok(()), 2),
        (vec!["it burns"], Ok(()), 2),
        (vec!["lies", "it burns"], Err("it does not hold what was written"), 2),
        (vec!["it burns", "lies"], Err("it burns"), 2),
    ] {
        let mut block = Faulty { bytes: vec![0; 4], faults, writes: 0 };
        assert_eq!(write_proved(&mut block, &[1; 4]), wanted.map_err(str::to_owned));
        assert_eq!(block.writes, writes);
    }
}
