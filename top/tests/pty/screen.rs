//! A terminal in memory. It knows the sequences that fahrenheit-top uses, and complains about all
//! others.

/// What a terminal shows.
pub(crate) struct Screen {
    size: (usize, usize),
    cells: Vec<Vec<char>>,
    cursor: (usize, usize),
    /// A sequence that has begun.
    begun: Option<String>,
    /// A character of several bytes that has begun.
    bytes: Vec<u8>,
    /// Whether the second screen is shown, and the cursor.
    pub(crate) is_second: bool,
    pub(crate) has_cursor: bool,
    /// What was written to the first screen.
    pub(crate) plain: String,
    pub(crate) complaints: Vec<String>,
}

impl Screen {
    pub(crate) fn new(size: (usize, usize)) -> Screen {
        Screen {
            size,
            cells: vec![vec![' '; size.1]; size.0],
            cursor: (0, 0),
            begun: None,
            bytes: Vec::new(),
            is_second: false,
            has_cursor: true,
            plain: String::new(),
            complaints: Vec::new(),
        }
    }

    pub(crate) fn resize(&mut self, size: (usize, usize)) {
        self.size = size;
        self.cells = vec![vec![' '; size.1]; size.0];
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.cells
            .iter()
            .map(|line| line.iter().collect())
            .collect()
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.bytes.push(*byte);
            if let Ok(text) = std::str::from_utf8(&self.bytes) {
                let text = text.to_owned();
                self.bytes.clear();
                text.chars().for_each(|c| self.put(c));
            }
        }
    }

    fn put(&mut self, c: char) {
        if let Some(begun) = &mut self.begun {
            begun.push(c);
            // The introducer is followed by parameters and one letter.
            if begun.len() > 1 && c.is_ascii_alphabetic() {
                let sequence = self.begun.take().unwrap_or_default();
                self.obey(&sequence);
            }
            return;
        }
        match c {
            '\u{1b}' => self.begun = Some(String::new()),
            _ if !self.is_second => self.plain.push(c),
            c if c.is_control() => self.complaints.push(format!("control character {c:?}")),
            c => {
                let (line, column) = self.cursor;
                match self
                    .cells
                    .get_mut(line)
                    .and_then(|line| line.get_mut(column))
                {
                    Some(cell) => *cell = c,
                    None => self
                        .complaints
                        .push(format!("{c:?} is outside: {:?}", self.cursor)),
                }
                self.cursor.1 += 1;
            }
        }
    }

    fn obey(&mut self, sequence: &str) {
        let position = sequence.strip_prefix('[').and_then(|s| s.strip_suffix('H'));
        match sequence {
            "[?1049h" => self.is_second = true,
            "[?1049l" => self.is_second = false,
            "[?25h" => self.has_cursor = true,
            "[?25l" => self.has_cursor = false,
            "[2J" => self.resize(self.size),
            "[0m" | "[7m" => {}
            _ => match position.and_then(|position| position.split_once(';')) {
                Some((line, column)) => {
                    let number = |text: &str| text.parse::<usize>().map_or(0, |n| n - 1);
                    self.cursor = (number(line), number(column));
                }
                None => self.complaints.push(format!("sequence {sequence:?}")),
            },
        }
    }
}
