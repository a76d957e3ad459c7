// Builds the pages and views into the Python package. `--watch` builds again on every change; `--plain` does not minify.
import { build, context } from "esbuild";
import { copyFile, mkdir, rm } from "node:fs/promises";
import { fileURLToPath } from "node:url";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const out = here("../src/residscope/results/static");

const VIEWS = [
  "ablation",
  "attention",
  "attribution",
  "causal_check",
  "coloured_text",
  "comparison",
  "composition",
  "evaluation",
  "explanation",
  "feature",
  "feature_life",
  "graph",
  "head_mosaic",
  "heads",
  "intervention",
  "logit_lens",
  "next_tokens",
  "patching",
  "river",
  "singular_vectors",
  "steering",
  "vocabulary",
];

const options = {
  entryPoints: {
    workbench: here("src/pages/workbench.tsx"),
    saved: here("src/saved.ts"),
    ...Object.fromEntries(VIEWS.map((view) => [`views/${view}`, here(`src/views/${view}.tsx`)])),
  },
  outdir: out,
  bundle: true,
  format: "esm",
  target: ["chrome123", "firefox128", "safari17.5"],
  jsx: "automatic",
  jsxImportSource: "preact",
  minify: !process.argv.includes("--plain"),
  charset: "utf8",
  legalComments: "none",
  logLevel: "warning",
};

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await rm(out, { recursive: true, force: true });
  await mkdir(out, { recursive: true });
  await copyFile(here("src/pages/index.html"), `${out}/index.html`);
  if (process.argv.includes("--watch")) await (await context(options)).watch();
  else await build(options);
}
