//! How the page looks: light or dark as the reader's system is, and legible when printed.

/// Colours of curves (after Okabe and Ito, who chose them to be told apart by colour-blind readers), as written into
/// the SVG. The two that are faint on one of the backgrounds are replaced there by [`CSS`].
pub(super) const PALETTE: [(u8, u8, u8); 8] = [
    (0, 114, 178),
    (230, 159, 0),
    (0, 158, 115),
    (204, 121, 167),
    (86, 180, 233),
    (213, 94, 0),
    (148, 103, 189),
    (139, 139, 20),
];

/// Everything that is not in an SVG attribute.
pub(super) const CSS: &str = "
:root { color-scheme: light dark; --back: #ffffff; --ink: #1c2127; --soft: #57606a; --line: #d0d7de;
  --box: #f3f6f9; --good: #00664a; --bad: #a33b00; }
@media (prefers-color-scheme: dark) {
  :root { --back: #14181d; --ink: #e4e8ec; --soft: #a4adb8; --line: #3a424c; --box: #1d232a;
    --good: #4cc9a0; --bad: #ff9a5c; }
  svg [stroke='#0072B2'] { stroke: #5b8cff; } svg [fill='#0072B2'] { fill: #5b8cff; }
  svg [stroke='#9467BD'] { stroke: #b493d6; } svg [fill='#9467BD'] { fill: #b493d6; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 3rem; max-width: 1180px; background: var(--back); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.25rem; margin: 2.4rem 0 .4rem; border-bottom: 1px solid var(--line); padding-bottom: .2rem; }
h3 { font-size: 1.02rem; margin: 1.2rem 0 .3rem; }
p { margin: .4rem 0; max-width: 46rem; }
.soft, figcaption { color: var(--soft); font-size: .9rem; }
nav a { margin-right: 1rem; white-space: nowrap; }
a { color: inherit; }
a:focus-visible, .scroll:focus-visible { outline: 3px solid #0072B2; outline-offset: 2px; }
.box { background: var(--box); border: 1px solid var(--line); border-left: 5px solid var(--good); border-radius: 6px;
  padding: .8rem 1.1rem 1rem; margin: 1rem 0; }
.box.none { border-left-color: var(--bad); }
.box h2 { margin-top: 0; border: 0; }
.big { font-size: 1.15rem; font-weight: 600; max-width: none; }
.met { color: var(--good); } .missed { color: var(--bad); }
.met, .missed { font-weight: 600; }
pre { background: var(--back); border: 1px solid var(--line); border-radius: 4px; padding: .7rem; overflow-x: auto;
  font: .85rem/1.4 ui-monospace, monospace; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 30rem), 1fr)); gap: 1rem 1.5rem; }
.small { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 16rem), 1fr)); gap: .8rem 1rem; }
figure { margin: 0; min-width: 0; }
figure.wide { grid-column: 1 / -1; }
figcaption strong { color: var(--ink); }
svg { display: block; width: 100%; height: auto; color: var(--ink); }
svg [stroke='#010204'] { stroke: var(--back); }
svg text { font-family: system-ui, sans-serif; }
svg.key { display: inline-block; width: 44px; height: 14px; vertical-align: -2px; }
ul.keys { list-style: none; display: flex; flex-wrap: wrap; gap: .1rem 1.2rem; padding: 0; margin: .3rem 0 .6rem;
  font-size: .9rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .87rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); padding-bottom: .3rem; }
th, td { padding: .22rem .6rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { border-bottom-width: 2px; }
tbody th { font-weight: 600; border-bottom-width: 1px; }
th.word, td.word { text-align: left; }
td.wrap { white-space: normal; text-align: left; min-width: 16rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1.2rem; margin: .4rem 0; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 40rem) { dl { grid-template-columns: 1fr; } dd { margin-bottom: .4rem; } }
@media print { body { max-width: none; } figure { break-inside: avoid; } }
";
