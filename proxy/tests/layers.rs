//! Holds the modules to the layer table of `src/lib.rs`: lower layers never import higher ones. The table stands here,
//! there and in `docs/ARCHITECTURE.md`, and is the same in all three.

use std::path::{Path, PathBuf};
use std::{fs, io};

/// Top-level modules by layer, lowest first.
const LAYERS: [&[&str]; 6] = [
    &["addr", "drain", "latest", "lifetime", "metrics", "sys", "throttle"],
    &["listen", "intercept", "tls", "svid"],
    &["authz", "route"],
    &["protocol", "pool", "upstream", "refusal", "access"],
    &["inbound", "outbound"],
    &["config", "status", "verify", "admin", "app", "bench", "cli", "demo"],
];

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|modules| modules.contains(&module))
}

/// Modules named by `crate::NAME` in a source text, with the line; `use crate::{a, b}` lists count each.
fn imports(source: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in source.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        for after in code.split("crate::").skip(1) {
            let list = after.strip_prefix('{').map_or(after, |list| list);
            let names = if after.starts_with('{') { list.split(',').collect() } else { vec![list] };
            for name in names {
                let name: String =
                    name.trim().chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
                found.push((number + 1, name));
            }
        }
    }
    found
}

/// What a file of `module` may not import, as lines to show.
fn violations(module: &str, source: &str) -> Vec<String> {
    let Some(own) = layer(module) else { return vec![format!("module {module} is in no layer")] };
    imports(source)
        .into_iter()
        .filter_map(|(line, name)| {
            layer(&name)
                .filter(|other| *other > own)
                .map(|other| format!("line {line}: {module} (L{own}) imports {name} (L{other})"))
        })
        .collect()
}

fn sources(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(sources(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(files)
}

#[test]
fn lower_layers_never_import_higher_ones() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    let mut seen = 0;
    for file in sources(&root).unwrap() {
        let inside = file.strip_prefix(&root).unwrap();
        let module = inside.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs");
        if module == "lib" || module == "main" {
            continue;
        }
        seen += 1;
        let text = fs::read_to_string(&file).unwrap();
        wrong.extend(
            violations(module, &text).into_iter().map(|line| format!("{}: {line}", inside.display())),
        );
    }
    assert!(seen > 30, "only {seen} files found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Paths in backquotes: what ends in `.rs`, or in a slash.
fn named_files(text: &str) -> impl Iterator<Item = &str> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted
        .filter(|name| !name.contains(char::is_whitespace) && (name.ends_with(".rs") || name.ends_with('/')))
}

#[test]
fn every_file_that_the_architecture_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = fs::read_to_string(root.join("docs/ARCHITECTURE.md")).unwrap();
    let bases = ["", "proxy/src", "proxy/src/outbound"].map(|base| root.join(base));
    let exists = |name: &&str| bases.iter().any(|base| base.join(name).exists());
    let missing: Vec<&str> = named_files(&text).filter(|name| !exists(name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert!(named_files(&text).count() > 40, "the paths are no longer found");
    assert!(named_files("`not/there.rs` and `authz/`, not `a b.rs` or `c`").eq(["not/there.rs", "authz/"]));
}

#[test]
fn a_wrong_import_is_noticed() {
    assert_eq!(violations("authz", "use crate::config::Bootstrap;").len(), 1);
    assert_eq!(violations("authz", "use crate::{tls, inbound};").len(), 1);
    assert_eq!(violations("tls", "fn f(x: crate::pool::Pools) {}").len(), 1);
    assert_eq!(violations("inbound", "use crate::authz; // not crate::app").len(), 0);
    assert_eq!(violations("surprise", "").len(), 1);
}

/// The modules of each layer in a text's table, whose rows are ``| L0 | `one`, `other` | what |``.
fn table(text: &str) -> Vec<Vec<&str>> {
    let rows = text.lines().filter_map(|line| line.trim_start_matches("//! ").strip_prefix("| L"));
    rows.filter_map(|row| row.split('|').nth(1))
        .map(|modules| modules.split('`').skip(1).step_by(2).collect())
        .collect()
}

#[test]
fn the_tables_that_people_read_are_this_one() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for file in ["src/lib.rs", "../docs/ARCHITECTURE.md"] {
        let text = fs::read_to_string(root.join(file)).unwrap();
        assert_eq!(table(&text), LAYERS.map(<[_]>::to_vec), "{file}");
    }
}

#[test]
fn every_module_is_in_one_layer() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    let modules = text.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    let mut named = LAYERS.concat();
    named.sort_unstable();
    assert_eq!(modules.collect::<Vec<_>>(), named);
}
