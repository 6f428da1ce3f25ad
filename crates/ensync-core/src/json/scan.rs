use std::borrow::Cow;
use std::collections::HashSet;

use super::cursor::Cursor;
use super::{Fault, MAX_DEPTH, Why};

/// A text that holds to the rule, and its members if it is an object.
#[derive(Debug)]
pub(crate) struct Scanned<'a> {
    /// In the order of the text; `None` if it is no object.
    pub(crate) members: Option<Vec<Member<'a>>>,
}

/// A member of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member<'a> {
    /// Its name, without escapes.
    pub(crate) name: Cow<'a, str>,
    /// Its value, as it stands there.
    pub(crate) value: &'a str,
    /// Where it begins, and where it ends.
    pub(crate) span: (usize, usize),
}

/// Checks a whole text.
pub(crate) fn scan(text: &str) -> Result<Scanned<'_>, Fault> {
    #[cfg(test)]
    crate::crypto::cost::read(text.len());
    let mut scanner = Scanner::new(text);
    scanner.value()?;
    match scanner.cursor.next() {
        None => Ok(Scanned { members: scanner.top }),
        Some(_) => Err(scanner.cursor.fault(Why::Expected("the end"))),
    }
}

/// Checks the value that a text begins with, and gives that and what follows it.
pub(crate) fn prefix(text: &str) -> Result<(&str, &str), Fault> {
    let mut scanner = Scanner::new(text);
    scanner.cursor.next();
    let start = scanner.cursor.at();
    scanner.value()?;
    Ok((scanner.cursor.since(start), text.get(scanner.cursor.at()..).unwrap_or_default()))
}

struct Scanner<'a> {
    cursor: Cursor<'a>,
    /// How many objects and arrays are open, and which of them are objects, the innermost in the lowest bit.
    depth: usize,
    objects: u128,
    /// The members so far of all open objects, and where those of each begin.
    members: Vec<Member<'a>>,
    begins: Vec<usize>,
    top: Option<Vec<Member<'a>>>,
}

impl<'a> Scanner<'a> {
    fn new(text: &'a str) -> Self {
        let cursor = Cursor::new(text);
        Self { cursor, depth: 0, objects: 0, members: Vec::new(), begins: Vec::new(), top: None }
    }

    /// One value with all that is in it. The stack is this struct's own, so depth costs no stack of the thread.
    fn value(&mut self) -> Result<(), Fault> {
        loop {
            match self.cursor.next() {
                Some(b'{') => {
                    self.open(true)?;
                    if self.cursor.next() == Some(b'}') {
                        self.close()?;
                    } else {
                        self.name()?;
                        continue;
                    }
                }
                Some(b'[') => {
                    self.open(false)?;
                    if self.cursor.next() != Some(b']') {
                        continue;
                    }
                    self.close()?;
                }
                Some(b'"') => _ = self.cursor.skip_string()?,
                Some(b'-' | b'0'..=b'9') => _ = self.cursor.number()?,
                _ => _ = self.cursor.word()?,
            }
            // A value has ended: whatever it stood in goes on, or ends too.
            loop {
                if self.depth == 0 {
                    return Ok(());
                }
                let object = self.objects & 1 == 1;
                if object {
                    self.end_member();
                }
                match self.cursor.next() {
                    Some(b',') => {
                        self.cursor.step();
                        if object {
                            self.name()?;
                        }
                        break;
                    }
                    Some(b'}') if object => self.close()?,
                    Some(b']') if !object => self.close()?,
                    _ if object => return Err(self.cursor.fault(Why::Expected("a comma or a closing brace"))),
                    _ => return Err(self.cursor.fault(Why::Expected("a comma or a closing bracket"))),
                }
            }
        }
    }

    fn open(&mut self, object: bool) -> Result<(), Fault> {
        if self.depth == MAX_DEPTH {
            return Err(self.cursor.fault(Why::Depth));
        }
        self.cursor.step();
        self.depth += 1;
        self.objects = self.objects << 1 | u128::from(object);
        if object {
            self.begins.push(self.members.len());
        }
        Ok(())
    }

    /// Reads a name and its colon.
    fn name(&mut self) -> Result<(), Fault> {
        if self.cursor.next() != Some(b'"') {
            return Err(self.cursor.fault(Why::Expected("a name in quotation marks")));
        }
        let begin = self.cursor.at();
        let name = self.cursor.string()?;
        self.cursor.expect(b':', "a colon")?;
        self.cursor.next();
        self.members.push(Member { name, value: "", span: (begin, self.cursor.at()) });
        Ok(())
    }

    fn end_member(&mut self) {
        let cursor = self.cursor;
        // Those of inner objects went when these ended, so the last one is the one whose value has ended.
        if let Some(member) = self.members.last_mut() {
            member.value = cursor.since(member.span.1);
            member.span.1 = cursor.at();
        }
    }

    fn close(&mut self) -> Result<(), Fault> {
        self.cursor.step();
        self.depth -= 1;
        let object = self.objects & 1 == 1;
        self.objects >>= 1;
        if object {
            let begin = self.begins.pop().unwrap_or_default();
            if let Some(at) = repeated(self.members.get(begin..).unwrap_or_default()) {
                return Err(self.cursor.fault_at(Why::Twice, at));
            }
            if self.depth == 0 {
                self.top = Some(std::mem::take(&mut self.members));
            } else {
                self.members.truncate(begin);
            }
        }
        Ok(())
    }
}

/// Where a name stands that is there already. Through a hash table, for a hostile object has 100,000 names that a comparison of each with
/// each would take minutes for; its keys are random, so that nobody can aim at its worst case.
pub(super) fn repeated(members: &[Member<'_>]) -> Option<usize> {
    let place = |member: &Member<'_>| member.span.0;
    if members.len() <= 8 {
        let again = |(n, member): (usize, &Member<'_>)| {
            members.get(..n)?.iter().any(|before| before.name == member.name).then(|| place(member))
        };
        return members.iter().enumerate().find_map(again);
    }
    let mut names: HashSet<&str> = HashSet::with_capacity(members.len());
    members.iter().find(|member| !names.insert(&member.name)).map(place)
}
