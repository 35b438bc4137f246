//! The attributes `#[fahrenheit::main]` and `#[fahrenheit::test]`. They are re-exported, and
//! documented, by the feature `macros` of `fahrenheit`.

mod arguments;
mod dependency;
mod error;
mod function;

use arguments::{Attribute, Settings};
use error::Error;
use function::Function;
use proc_macro::TokenStream;

/// Runs an `async fn main` on the loop of the main thread.
#[proc_macro_attribute]
pub fn main(arguments: TokenStream, item: TokenStream) -> TokenStream {
    expand(Attribute::Main, arguments, item)
}

/// Makes a test of an `async fn`.
#[proc_macro_attribute]
pub fn test(arguments: TokenStream, item: TokenStream) -> TokenStream {
    expand(Attribute::Test, arguments, item)
}

/// The item that takes the place of the function and its attribute. After an error it comes along
/// as far as possible, so that the compiler does not complain about what is missing then.
fn expand(attribute: Attribute, arguments: TokenStream, item: TokenStream) -> TokenStream {
    let function = match Function::parse(attribute, item.clone()) {
        Ok(function) => function,
        Err(error) => return with_error(error, item),
    };
    match Settings::parse(attribute, arguments) {
        Ok(settings) => function.expand(attribute, &settings),
        Err(error) => with_error(error, function.expand(attribute, &Settings::default())),
    }
}

fn with_error(error: Error, item: TokenStream) -> TokenStream {
    let mut tokens = error.into_tokens();
    tokens.extend(item);
    tokens
}
