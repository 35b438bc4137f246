//! The arguments of the attributes: `name`, or `name = value`, separated by commas.
//!
//! A further argument needs an entry in [`Settings::known`], an arm in [`Settings::set`] and a
//! field for what it says.

use crate::dependency;
use crate::error::Error;
use proc_macro::{Span, TokenStream, TokenTree};
use std::collections::BTreeSet;

/// Which attribute it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attribute {
    Main,
    Test,
}

impl Attribute {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Attribute::Main => "#[fahrenheit::main]",
            Attribute::Test => "#[fahrenheit::test]",
        }
    }
}

/// One argument.
struct Argument {
    name: String,
    span: Span,
    /// What stands behind the `=`, if there is one.
    value: Option<Vec<TokenTree>>,
}

/// What the arguments say.
#[derive(Default)]
pub(crate) struct Settings {
    /// The path of the library, if the program names it.
    library: Option<TokenStream>,
    /// Whether the test has a virtual clock.
    pub(crate) virtual_clock: bool,
    /// The number of seeds under which the test is run.
    pub(crate) seeds: Option<u64>,
}

impl Settings {
    /// The names of all arguments, as they are written.
    fn known(attribute: Attribute) -> &'static [&'static str] {
        match attribute {
            Attribute::Main => &["crate = \"path\""],
            Attribute::Test => &["crate = \"path\"", "virtual_clock", "seeds = 500"],
        }
    }

    fn set(&mut self, attribute: Attribute, argument: &Argument) -> Result<(), Error> {
        match (attribute, argument.name.as_str()) {
            (_, "crate") => self.library = Some(argument.path()?),
            (Attribute::Test, "virtual_clock") => {
                argument.check_alone()?;
                self.virtual_clock = true;
            }
            (Attribute::Test, "seeds") => self.seeds = Some(argument.number()?),
            (_, name) => {
                let known = Settings::known(attribute).join("`, `");
                let attribute = attribute.name();
                let text = format!("{attribute} has no argument `{name}`, only `{known}`");
                return Err(Error::new(argument.span, text));
            }
        }
        Ok(())
    }

    pub(crate) fn parse(attribute: Attribute, tokens: TokenStream) -> Result<Settings, Error> {
        let mut settings = Settings::default();
        let mut names = BTreeSet::new();
        for argument in split(tokens)? {
            settings.set(attribute, &argument)?;
            if !names.insert(argument.name.clone()) {
                let text = format!("the argument `{}` is given twice", argument.name);
                return Err(Error::new(argument.span, text));
            }
        }
        Ok(settings)
    }

    /// Returns the path of the library: that of the arguments, or else the name that the manifest
    /// of the program gives it.
    pub(crate) fn library(&self) -> TokenStream {
        let found = || {
            let name = dependency::name();
            let path = format!("::{name}").parse();
            path.expect("the name of a dependency is an identifier")
        };
        self.library.clone().unwrap_or_else(found)
    }
}

impl Argument {
    fn check_alone(&self) -> Result<(), Error> {
        match &self.value {
            None => Ok(()),
            Some(_) => Err(Error::new(
                self.span,
                format!("the argument `{}` takes no value", self.name),
            )),
        }
    }

    /// Returns the value as a number above zero.
    fn number(&self) -> Result<u64, Error> {
        let value = self.value.as_deref().unwrap_or_default();
        let number = match value {
            [TokenTree::Literal(literal)] => literal.to_string().replace('_', "").parse().ok(),
            _ => None,
        };
        number.filter(|&number| number > 0).ok_or_else(|| {
            let span = value.first().map_or(self.span, TokenTree::span);
            let name = &self.name;
            Error::new(
                span,
                format!("expected a number above 0, as in `{name} = 500`"),
            )
        })
    }

    /// Returns the value as a path, which may be written in quotes or without.
    fn path(&self) -> Result<TokenStream, Error> {
        let wrong = |span| Error::new(span, "expected a path, as in `crate = \"fahrenheit\"`");
        let value = self.value.as_deref().unwrap_or_default();
        let span = value.first().map_or(self.span, TokenTree::span);
        let path: TokenStream = match value {
            [TokenTree::Literal(literal)] => {
                let text = literal.to_string();
                let path = text.strip_prefix('"').and_then(|t| t.strip_suffix('"'));
                let path = path.and_then(|path| path.parse().ok());
                path.ok_or_else(|| wrong(span))?
            }
            tokens => tokens.iter().cloned().collect(),
        };
        let is_part = |token: &TokenTree| match token {
            TokenTree::Ident(_) => true,
            TokenTree::Punct(punct) => punct.as_char() == ':',
            _ => false,
        };
        // The program's own place, for errors about this path.
        let tokens: Vec<_> = path.into_iter().map(|token| at(span, token)).collect();
        if tokens.is_empty() || !tokens.iter().all(is_part) {
            return Err(wrong(span));
        }
        Ok(tokens.into_iter().collect())
    }
}

fn at(span: Span, mut token: TokenTree) -> TokenTree {
    token.set_span(span);
    token
}

fn split(tokens: TokenStream) -> Result<Vec<Argument>, Error> {
    let tokens: Vec<_> = tokens.into_iter().collect();
    let parts = tokens.split(|token| is_punct(token, ','));
    let mut found = Vec::new();
    for part in parts.filter(|part| !part.is_empty()) {
        let [TokenTree::Ident(name), rest @ ..] = part else {
            let text = "expected an argument: `name`, or `name = value`";
            return Err(Error::new(part[0].span(), text));
        };
        let value = match rest {
            [] => None,
            [equals, value @ ..] if is_punct(equals, '=') => Some(value.to_vec()),
            [other, ..] => return Err(Error::new(other.span(), "expected `=` or `,`")),
        };
        found.push(Argument {
            name: name.to_string(),
            span: name.span(),
            value,
        });
    }
    Ok(found)
}

pub(crate) fn is_punct(token: &TokenTree, wanted: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == wanted)
}
