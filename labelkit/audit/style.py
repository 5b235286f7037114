"""The look of the report: one style sheet, light and dark, for a wide window and a phone."""

LIGHT = (
    "--ground:#fdfdfb;--ink:#222;--soft:#55554f;--faint:#d9d9d4;--panel:#f3f3ee;--good:#0072B2;--poor:#E69F00;"
    "--none:#C4480A;--mark:#fff;"
)
DARK = (
    "--ground:#17191c;--ink:#e9e7e2;--soft:#b3b1ab;--faint:#3c4046;--panel:#22252a;--good:#56B4E9;--poor:#F2B233;"
    "--none:#FF7A3D;--mark:#17191c;"
)
SHEET = (
    f".lk{{{LIGHT}}}@media(prefers-color-scheme:dark){{.lk{{{DARK}color-scheme:dark}}}}"
    """
.lk{background:var(--ground);color:var(--ink);font:16px/1.5 system-ui,sans-serif;max-width:72rem;margin:0 auto;
padding:1rem;box-sizing:border-box;overflow-wrap:anywhere}
.lk h1{font-size:1.5rem;line-height:1.25;margin:.5rem 0}.lk h2{font-size:1.15rem;margin:2rem 0 .5rem}
.lk p{margin:.4rem 0;max-width:48rem}.lk .soft{color:var(--soft)}
.lk-defs{position:absolute}
.lk .verdict{border-left:.35rem solid var(--none);background:var(--panel);padding:.7rem 1rem;font-weight:600}
.lk .verdict.calm{border-color:var(--good)}
.lk .cause{margin:1rem 0}.lk .cause b{display:inline-block;min-width:6rem}
.lk .bar{height:1.1rem;background:var(--panel);border:1px solid var(--faint);max-width:48rem;margin:.3rem 0}

.lk .bar rect{fill:var(--none)}
.lk .bar svg{display:block;width:100%;height:100%}
.lk code{font:.85em/1.4 ui-monospace,monospace;background:var(--panel);padding:.1em .35em;border-radius:3px}
.lk pre{margin:.4rem 0;overflow-x:auto;background:var(--panel);padding:.5rem .7rem;max-width:48rem}
.lk pre code{padding:0;overflow-wrap:normal}
.lk .charts,.lk .pictures{display:grid;gap:1rem;grid-template-columns:repeat(auto-fit,minmax(min(100%,320px),1fr))}
.lk .charts figure{max-width:480px}
.lk figure{margin:0}.lk figcaption{font-size:.9rem;color:var(--soft);margin:.2rem 0}
.lk figure svg{display:block;width:100%;height:auto;overflow:visible}
.lk svg text{fill:var(--ink);font:12px system-ui,sans-serif}
.lk .good{fill:var(--good)}.lk .poor{fill:var(--poor)}.lk .none{fill:var(--none)}
.lk rect.poor:not(pattern *){fill:url(#lk-poor)}.lk rect.none:not(pattern *){fill:url(#lk-none)}
.lk circle.mark{fill:var(--mark)}.lk path.mark{stroke:var(--mark);stroke-width:1.2}
.lk .grid{stroke:var(--faint);fill:none}.lk .anchor{stroke:var(--ink);stroke-width:1.5}
.lk .line{fill:none;stroke-width:2.5}.lk .line.good{stroke:var(--good)}
.lk .line.none{stroke:var(--none);stroke-dasharray:6 3}
.lk .legend{list-style:none;display:flex;flex-wrap:wrap;gap:.3rem 1.2rem;padding:0;margin:.4rem 0;font-size:.9rem}
.lk .scroll{overflow-x:auto;margin:.5rem 0}
.lk table{border-collapse:collapse;font-size:.92rem;font-variant-numeric:tabular-nums}
.lk th,.lk td{padding:.3rem .7rem;border-bottom:1px solid var(--faint);text-align:right;overflow-wrap:normal}
.lk th:first-child{text-align:left}.lk td,.lk tbody th{white-space:nowrap}
.lk th.text{text-align:left}
.lk td.text{text-align:left;font:.85em/1.4 ui-monospace,monospace;white-space:normal;min-width:19rem;
overflow-wrap:anywhere}
.lk tbody th{font-weight:400}
.lk thead th{font-weight:600;vertical-align:bottom}
.lk .picture svg{overflow:hidden;background:#22252a;border:1px solid var(--faint)}
.lk .picture svg rect{fill:none;vector-effect:non-scaling-stroke}
.lk .picture .served{stroke:#56B4E9;stroke-width:1}
.lk .picture .beyond{stroke:#F2B233;stroke-width:1;stroke-dasharray:3 2}
.lk .picture svg .starved{stroke:#FF7A3D;stroke-width:2;fill:#FF7A3D;fill-opacity:.35}
.lk .picture .loses{stroke:#FF7A3D;stroke-width:1.5;fill:none;vector-effect:non-scaling-stroke}
.lk .picture .halo{stroke:#17191c;stroke-width:4;fill:none;vector-effect:non-scaling-stroke;opacity:.6}
.lk details{margin:.4rem 0}.lk details li{font-size:.85rem}.lk summary{cursor:pointer}
"""
)
PAGE = "body{margin:0;background:#fdfdfb}@media(prefers-color-scheme:dark){body{background:#17191c}}"
