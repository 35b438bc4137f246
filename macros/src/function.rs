//! The function that an attribute stands before. Only its head is looked at; the rest is copied.

use crate::arguments::{Attribute, Settings, is_punct};
use crate::error::Error;
use proc_macro::{Delimiter, Group, Ident, Span, TokenStream, TokenTree};

/// An `async fn` without parameters.
pub(crate) struct Function {
    /// Other attributes, and documentation.
    attributes: Vec<TokenTree>,
    visibility: Vec<TokenTree>,
    /// All from `async` up to the body.
    signature: Vec<TokenTree>,
    name: Ident,
    body: Group,
}

impl Function {
    pub(crate) fn parse(attribute: Attribute, item: TokenStream) -> Result<Function, Error> {
        let mut tokens: Vec<_> = item.into_iter().collect();
        let place = tokens.first().map_or(Span::call_site(), TokenTree::span);
        let no_function = || {
            let text = format!("{} belongs before an `async fn`", attribute.name());
            Error::new(place, text)
        };
        // Each attribute is a `#` and a group.
        let mut end = 0;
        while tokens.get(end).is_some_and(|token| is_punct(token, '#')) {
            end += 2;
        }
        let attributes: Vec<_> = tokens.drain(..end.min(tokens.len())).collect();
        let end = match tokens.as_slice() {
            [first, TokenTree::Group(_), ..] if is_word(first, "pub") => 2,
            [first, ..] if is_word(first, "pub") => 1,
            _ => 0,
        };
        let visibility = tokens.drain(..end).collect();
        let Some(TokenTree::Group(body)) = tokens.pop() else {
            return Err(no_function());
        };
        let fn_at = tokens.iter().position(|token| is_word(token, "fn"));
        let (Some(fn_at), Delimiter::Brace) = (fn_at, body.delimiter()) else {
            return Err(no_function());
        };
        let Some(TokenTree::Ident(name)) = tokens.get(fn_at + 1).cloned() else {
            return Err(no_function());
        };
        check_head(attribute, &tokens, fn_at, &name)?;
        if attribute == Attribute::Test {
            check_attributes(&attributes)?;
        }
        Ok(Function {
            attributes,
            visibility,
            signature: tokens,
            name,
            body,
        })
    }

    /// Returns a function of that name which is not `async` and contains the one of the program:
    ///
    /// ```text
    /// fn name() -> Output {
    ///     async fn name() -> Output { … }
    ///     ::fahrenheit::run(name())
    /// }
    /// ```
    ///
    /// A function rather than an `async` block, whose type the compiler would have to guess. So
    /// errors in the body read as they do in any other function.
    pub(crate) fn expand(&self, attribute: Attribute, settings: &Settings) -> TokenStream {
        let mut inner: TokenStream = self.signature.iter().cloned().collect();
        inner.extend([TokenTree::from(self.body.clone())]);
        inner.extend(settings.library());
        let name = self.name.to_string();
        inner.extend(match attribute {
            Attribute::Main => tokens(&format!("::run({name}())")),
            Attribute::Test => {
                let clock = match settings.virtual_clock {
                    true => ".virtual_clock()",
                    false => "",
                };
                let run = match settings.seeds {
                    Some(n) => format!("run_seeds({n}, {name})"),
                    None => format!("run({name})"),
                };
                let path = match settings.seeds {
                    Some(_) => path_of(&name),
                    None => String::new(),
                };
                tokens(&format!("::__macros::Test::new(){clock}{path}.{run}"))
            }
        });
        let mut outer = TokenStream::new();
        if attribute == Attribute::Test {
            outer.extend(tokens("#[::core::prelude::v1::test]"));
        }
        outer.extend(self.attributes.iter().cloned());
        outer.extend(self.visibility.iter().cloned());
        let is_async = |token: &&TokenTree| is_word(token, "async");
        outer.extend(self.signature.iter().filter(|t| !is_async(t)).cloned());
        let mut body = Group::new(Delimiter::Brace, inner);
        body.set_span(self.body.span());
        outer.extend([TokenTree::from(body)]);
        outer
    }
}

/// Says what the test is called, for the command that repeats a failure.
fn path_of(name: &str) -> String {
    let name = name.trim_start_matches("r#");
    format!(".path(::core::concat!(::core::module_path!(), \"::{name}\"))")
}

/// Checks what stands before the body: `fn` is at `fn_at`, and its name behind it.
fn check_head(
    attribute: Attribute,
    head: &[TokenTree],
    fn_at: usize,
    name: &Ident,
) -> Result<(), Error> {
    let attribute = attribute.name();
    if !head[..fn_at].iter().any(|token| is_word(token, "async")) {
        let text = format!("the function of {attribute} has to be async: write `async fn {name}`");
        return Err(Error::new(head[fn_at].span(), text));
    }
    let error = |what: &str, span| {
        let text = format!("the function of {attribute} cannot have {what}");
        Err(Error::new(span, text))
    };
    match head.get(fn_at + 2) {
        Some(TokenTree::Group(parameters)) if !parameters.stream().is_empty() => {
            error("parameters", parameters.span())
        }
        Some(token) if is_punct(token, '<') => error("generic parameters", token.span()),
        _ => Ok(()),
    }
}

/// A second `#[test]` would have the function run twice, and once without a loop.
fn check_attributes(attributes: &[TokenTree]) -> Result<(), Error> {
    for token in attributes {
        if let TokenTree::Group(group) = token {
            if group.stream().to_string() == "test" {
                let text = "remove this attribute: #[fahrenheit::test] makes a test by itself";
                return Err(Error::new(group.span(), text));
            }
        }
    }
    Ok(())
}

fn is_word(token: &TokenTree, word: &str) -> bool {
    matches!(token, TokenTree::Ident(ident) if ident.to_string() == word)
}

fn tokens(text: &str) -> TokenStream {
    text.parse().expect("this is Rust")
}
