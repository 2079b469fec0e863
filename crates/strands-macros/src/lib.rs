//! Attribute macros of the `strands` crate, which re-exports them as `#[strands::main]` and
//! `#[strands::test]`.
//!
//! Both wrap a plain blocking `fn` so that its body runs as a goroutine. The function itself is
//! kept, token for token, inside a function of the same name that does nothing but call it through
//! `strands::run`. What is needed from the signature is a handful of token trees, so it is picked
//! apart by hand: the crate has no dependencies, and whoever depends on `strands` compiles no parser.
//!
//! The expansions name `::strands`, so a crate that renames the dependency cannot use them; the
//! crate's own unit tests say `extern crate self as strands;`.

use std::fmt;

use proc_macro::{Delimiter, Group, Ident, Literal, Span, TokenStream, TokenTree};

/// Runs `main` as a goroutine.
///
/// The function takes no arguments and may return whatever a `main` may return: anything that
/// implements [`Termination`](std::process::Termination). A panic in it ends the process as a
/// panic in any `main` does. When it returns, the process ends, whatever goroutines still live.
///
/// # Examples
///
/// ```
/// use strands::channel;
///
/// #[strands::main]
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let (tx, rx) = channel::bounded(0);
///     let sender = strands::go(move || tx.send("hello"));
///     assert_eq!(rx.recv()?, "hello");
///     sender.join().expect("the sender does not panic")?;
///     Ok(())
/// }
/// ```
///
/// # Expansion
///
/// The function above becomes
///
/// ```
/// # use strands::channel;
/// fn main() -> ::std::process::ExitCode {
///     fn main() -> Result<(), Box<dyn std::error::Error>> {
///         // … the body, as it was …
/// #       Ok(())
///     }
///     ::strands::run(|| ::std::process::Termination::report(main()))
/// }
/// ```
///
/// The result is reported inside the goroutine because it need not be `Send` (`Box<dyn Error>` is
/// not); the [`ExitCode`](std::process::ExitCode) that comes of it is. Attributes and visibility
/// stay with the outer function. The inner one has the same name, so that a body that calls
/// `main` recursively means itself, and no name is taken from the surrounding module. A `main` that
/// returns `!` has nothing to report, so the closure only calls it.
///
/// # Mistakes
///
/// Blocking code needs no `async`:
///
/// ```compile_fail
/// #[strands::main]
/// async fn main() {}
/// ```
///
/// There is nothing to pass in, neither to the function nor to the attribute:
///
/// ```compile_fail
/// #[strands::main]
/// fn main(arguments: Vec<String>) {}
/// ```
///
/// ```compile_fail
/// #[strands::main(threads = 4)]
/// fn main() {}
/// ```
///
/// Only `main` can be the program's `main`:
///
/// ```compile_fail
/// #[strands::main]
/// struct Program;
///
/// fn main() {}
/// ```
#[proc_macro_attribute]
pub fn main(arguments: TokenStream, item: TokenStream) -> TokenStream {
    expand(Attribute::Main, arguments, item)
}

/// Runs a test as a goroutine.
///
/// It marks the function as a `#[test]` too. The function takes no arguments and may return
/// whatever a test may return. Other attributes, such as `#[should_panic]` and `#[cfg]`, mean what they mean on any test.
///
/// # What is printed
///
/// `cargo test` keeps what a test prints on its own thread, and on threads that this spawns, and shows it if the test
/// fails. Of what goroutines print it keeps nothing, in this and any other test: they run on threads that all
/// tests share, which cannot be told apart by test. So their output, and the messages of their panics, appear at once, as
/// under `--nocapture`, between the lines of the harness, and whether the test fails or not; that of a
/// `#[should_panic]` test does, too. The panic's message names the thread that the goroutine ran on, `strands-0`, say, and
/// not the test, but it says in which line of the program it was.
///
/// # Examples
///
/// ```
/// # fn main() {}
/// #[strands::test]
/// fn children_are_joined() {
///     assert_eq!(strands::go(|| 6 * 7).join().unwrap(), 42);
/// }
///
/// #[strands::test]
/// #[should_panic = "out of tea"]
/// fn a_panic_reaches_the_harness() {
///     panic!("out of tea");
/// }
///
/// #[strands::test]
/// fn an_error_fails_the_test() -> Result<(), std::num::ParseIntError> {
///     assert_eq!("42".parse::<i32>()?, 42);
///     Ok(())
/// }
/// ```
///
/// # Expansion
///
/// The first test above becomes
///
/// ```
/// # fn main() {}
/// #[::core::prelude::v1::test]
/// fn children_are_joined() {
///     fn children_are_joined() {
///         // … the body, as it was …
///     }
///     ::strands::run(children_are_joined)
/// }
/// ```
///
/// and a test with a result is treated as [`macro@main`] treats it, returning an
/// [`ExitCode`](std::process::ExitCode). The distinction is there because the harness wants a
/// `#[should_panic]` test to return nothing.
///
/// # Mistakes
///
/// As in [`macro@main`], `async`, parameters and arguments have no place here:
///
/// ```compile_fail
/// #[strands::test]
/// async fn no_async() {}
/// # fn main() {}
/// ```
///
/// ```compile_fail
/// #[strands::test]
/// fn no_parameters(n: i32) {}
/// # fn main() {}
/// ```
///
/// ```compile_fail
/// #[strands::test(threads = 4)]
/// fn no_arguments() {}
/// # fn main() {}
/// ```
#[proc_macro_attribute]
pub fn test(arguments: TokenStream, item: TokenStream) -> TokenStream {
    expand(Attribute::Test, arguments, item)
}

#[derive(Clone, Copy, PartialEq)]
enum Attribute {
    Main,
    Test,
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Main => "`#[strands::main]`",
            Self::Test => "`#[strands::test]`",
        })
    }
}

fn expand(attribute: Attribute, arguments: TokenStream, item: TokenStream) -> TokenStream {
    match check(attribute, arguments, item.clone()) {
        Ok(function) => function.wrap(attribute),
        Err(mistake) => mistake.report(attribute, item),
    }
}

fn check(
    attribute: Attribute,
    arguments: TokenStream,
    item: TokenStream,
) -> Result<Function, Mistake> {
    if let Some(argument) = arguments.into_iter().next() {
        return Err(Mistake::new(argument.span(), "takes no arguments"));
    }
    let function = Function::parse(item)?;
    // Elsewhere the changed return type would be a surprise.
    if attribute == Attribute::Main && function.name.to_string() != "main" {
        return Err(Mistake::new(function.name.span(), "belongs on `fn main`"));
    }
    Ok(function)
}

/// `attributes visibility fn name() output body`
struct Function {
    /// What stands before `fn`: attributes and visibility.
    prefix: TokenStream,
    keyword: Ident,
    name: Ident,
    parameters: Group,
    /// `-> T`, or nothing.
    output: Vec<TokenTree>,
    body: Group,
}

impl Function {
    fn parse(item: TokenStream) -> Result<Self, Mistake> {
        let mut tokens = flatten(item).into_iter();

        let mut prefix = TokenStream::new();
        let keyword = loop {
            let token = tokens
                .next()
                .ok_or_else(|| Mistake::new(Span::call_site(), "belongs on a `fn`"))?;
            match &token {
                // `#[…]`, doc comments included, and the `(…)` of `pub(…)`.
                TokenTree::Punct(punct) if punct.as_char() == '#' => {}
                TokenTree::Group(_) => {}
                TokenTree::Ident(word) => match word.to_string().as_str() {
                    "pub" => {}
                    "fn" => break word.clone(),
                    "async" => {
                        let what = "takes a plain `fn`: blocking code needs no `async`";
                        return Err(Mistake::new(word.span(), what));
                    }
                    word @ ("const" | "unsafe" | "safe" | "extern")
                        if starts_function(tokens.as_slice()) =>
                    {
                        let what = format!("takes a plain `fn`, not `{word} fn`");
                        return Err(Mistake::new(token.span(), what));
                    }
                    _ => return Err(Mistake::new(token.span(), "belongs on a `fn`")),
                },
                _ => return Err(Mistake::new(token.span(), "belongs on a `fn`")),
            }
            prefix.extend([token]);
        };

        let Some(TokenTree::Ident(name)) = tokens.next() else {
            return Err(Mistake::new(keyword.span(), "belongs on a `fn` with a name"));
        };

        let parameters = match tokens.next() {
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Parenthesis => group,
            generics => {
                let span = generics.map_or(name.span(), |token| token.span());
                return Err(Mistake::new(span, "takes a `fn` without generic parameters"));
            }
        };
        if let Some(parameter) = parameters.stream().into_iter().next() {
            return Err(Mistake::new(parameter.span(), "takes a `fn` without parameters"));
        }

        // A brace may stand in the return type too (`Array<{ N }>`), but the body is always last.
        let mut output: Vec<_> = tokens.collect();
        let body = match output.pop() {
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => group,
            _ => return Err(Mistake::new(name.span(), "belongs on a `fn` with a body")),
        };
        if let Some(word) = output.iter().find(|token| is_word(token, "where")) {
            return Err(Mistake::new(word.span(), "takes a `fn` without a `where` clause"));
        }

        Ok(Self { prefix, keyword, name, parameters, output, body })
    }

    /// The expansion that the documentation of the two macros shows.
    fn wrap(self, attribute: Attribute) -> TokenStream {
        let here = Span::call_site();
        let parameters = TokenTree::Group(self.parameters);
        let header = [self.keyword.into(), self.name.clone().into(), parameters.clone()];

        let mut outer = TokenStream::new();
        if attribute == Attribute::Test {
            outer.extend(code("#[::core::prelude::v1::test]", here));
        }
        outer.extend(self.prefix);
        outer.extend(header.clone());

        let goroutine = if attribute == Attribute::Test && is_unit(&self.output) {
            TokenTree::Ident(self.name).into()
        } else {
            outer.extend(code("-> ::std::process::ExitCode", here));
            // A result that cannot be reported is the fault of the return type: say so there.
            let there = self.output.get(2).map_or(here, |token| here.located_at(token.span()));
            let mut name = self.name;
            name.set_span(there);
            let mut call = TokenStream::from(TokenTree::Ident(name));
            call.extend([group(Delimiter::Parenthesis, TokenStream::new(), there)]);
            if is_never(&self.output) {
                // Code that reports what never comes would be warned of as unreachable.
                let mut never = code("|| -> ::std::process::ExitCode", here);
                never.extend([group(Delimiter::Brace, call, here)]);
                never
            } else {
                let mut report = code("|| ::std::process::Termination::report", there);
                report.extend([group(Delimiter::Parenthesis, call, there)]);
                report
            }
        };

        let mut body = TokenStream::from_iter(header);
        body.extend(self.output);
        body.extend([TokenTree::Group(self.body)]);
        body.extend(code("::strands::run", here));
        body.extend([group(Delimiter::Parenthesis, goroutine, here)]);
        outer.extend([group(Delimiter::Brace, body, here)]);
        outer
    }
}

/// What is wrong, and at which token.
struct Mistake {
    span: Span,
    what: String,
}

impl Mistake {
    fn new(span: Span, what: impl Into<String>) -> Self {
        Self { span, what: what.into() }
    }

    /// A `compile_error!` at the token, and an item that causes no errors of its own.
    fn report(self, attribute: Attribute, item: TokenStream) -> TokenStream {
        let mut text = Literal::string(&format!("{attribute} {}", self.what));
        text.set_span(self.span);
        let mut error = code("::core::compile_error!", self.span);
        let text = TokenTree::Literal(text).into();
        error.extend([group(Delimiter::Brace, text, self.span)]);

        let item = flatten(item);
        let function = item.iter().position(|token| is_word(token, "fn"));
        match (function, attribute) {
            // Whatever is wrong with `main`, it is not missing.
            (Some(at), Attribute::Main) if item.get(at + 1).is_some_and(|t| is_word(t, "main")) => {
                error.extend(code("fn main() {}", Span::call_site()));
            }
            (Some(_), _) => {}
            (None, _) => error.extend(item),
        }
        error
    }
}

/// The item's own tokens. What a `macro_rules!` fragment (`$vis`, `$body`) has contributed is
/// wrapped in invisible groups.
fn flatten(item: TokenStream) -> Vec<TokenTree> {
    let mut flat = Vec::new();
    for token in item {
        match token {
            TokenTree::Group(group) if group.delimiter() == Delimiter::None => {
                flat.extend(flatten(group.stream()));
            }
            token => flat.push(token),
        }
    }
    flat
}

/// Whether a qualifier of a `fn` (and not, say, of a `const` item) has been seen.
fn starts_function(rest: &[TokenTree]) -> bool {
    rest.iter()
        .find(|token| !matches!(token, TokenTree::Literal(_)) && !is_qualifier(token))
        .is_some_and(|token| is_word(token, "fn"))
}

fn is_qualifier(token: &TokenTree) -> bool {
    ["const", "async", "unsafe", "safe", "extern"].iter().any(|word| is_word(token, word))
}

fn is_word(token: &TokenTree, word: &str) -> bool {
    matches!(token, TokenTree::Ident(ident) if ident.to_string() == word)
}

/// Whether `-> T` is absent or `-> ()`.
fn is_unit(output: &[TokenTree]) -> bool {
    match output {
        [] => true,
        [_, _, TokenTree::Group(group)] => {
            group.delimiter() == Delimiter::Parenthesis && group.stream().is_empty()
        }
        _ => false,
    }
}

/// Whether it is `-> !`.
fn is_never(output: &[TokenTree]) -> bool {
    matches!(output, [_, _, TokenTree::Punct(punct)] if punct.as_char() == '!')
}

fn group(delimiter: Delimiter, tokens: TokenStream, span: Span) -> TokenTree {
    let mut group = Group::new(delimiter, tokens);
    group.set_span(span);
    TokenTree::Group(group)
}

/// Tokens of our own, all of which point at `span` and see the names that the caller sees.
fn code(text: &str, span: Span) -> TokenStream {
    let tokens: TokenStream = text.parse().expect("the macro's own text is Rust");
    tokens
        .into_iter()
        .map(|mut token| {
            token.set_span(span);
            token
        })
        .collect()
}
