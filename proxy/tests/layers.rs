//! Holds the modules to the layer table of `src/lib.rs`: lower layers never import higher ones.

use std::path::{Path, PathBuf};
use std::{fs, io};

/// Top-level modules by layer, lowest first.
const LAYERS: [&[&str]; 6] = [
    &["addr", "drain", "latest", "lifetime", "metrics", "sys", "throttle"],
    &["listen", "intercept", "tls", "svid"],
    &["authz", "route"],
    &["protocol", "pool", "upstream", "refusal", "access"],
    &["inbound", "outbound"],
    &["config", "admin", "app", "cli", "demo"],
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

#[test]
fn a_wrong_import_is_noticed() {
    assert_eq!(violations("authz", "use crate::config::Bootstrap;").len(), 1);
    assert_eq!(violations("authz", "use crate::{tls, inbound};").len(), 1);
    assert_eq!(violations("tls", "fn f(x: crate::pool::Pools) {}").len(), 1);
    assert_eq!(violations("inbound", "use crate::authz; // not crate::app").len(), 0);
    assert_eq!(violations("surprise", "").len(), 1);
}
