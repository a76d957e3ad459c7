// A saved file: one view, its data beside it, no network.

import { hostedModel } from "./host.ts";
import type { View } from "./host.ts";
import { parseArrays } from "./arrays.ts";
import attention from "./views/attention.tsx";
import attribution from "./views/attribution.tsx";
import colouredText from "./views/coloured_text.tsx";
import headMosaic from "./views/head_mosaic.tsx";
import feature from "./views/feature.tsx";
import graph from "./views/graph.tsx";
import heads from "./views/heads.tsx";
import intervention from "./views/intervention.tsx";
import logitLens from "./views/logit_lens.tsx";
import patching from "./views/patching.tsx";
import river from "./views/river.tsx";
import vocabulary from "./views/vocabulary.tsx";
import ablation from "./views/ablation.tsx";
import causalCheck from "./views/causal_check.tsx";
import comparison from "./views/comparison.tsx";
import composition from "./views/composition.tsx";
import explanation from "./views/explanation.tsx";
import nextTokens from "./views/next_tokens.tsx";
import steering from "./views/steering.tsx";
import singularVectors from "./views/singular_vectors.tsx";
import "./saved.css";

const VIEWS: Record<string, View> = {
  singular_vectors: singularVectors,
  next_tokens: nextTokens,
  composition,
  explanation,
  comparison,
  ablation,
  attention,
  attribution,
  causal_check: causalCheck,
  coloured_text: colouredText,
  feature,
  graph,
  head_mosaic: headMosaic,
  heads,
  intervention,
  logit_lens: logitLens,
  patching,
  river,
  steering,
  vocabulary,
};

const el = document.getElementById("view")!;
try {
  const text = document.getElementById("data")!.textContent!;
  const zipped = new Blob([Uint8Array.from(atob(text.trim()), (char) => char.charCodeAt(0))]);
  const data = await new Response(zipped.stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
  const { payload } = parseArrays<{ view: string; name: string }>(data);
  const view = VIEWS[payload.view];
  if (!view) throw new Error(`No view is called "${payload.view}"; this file knows ${Object.keys(VIEWS).join(", ")}.`);
  document.documentElement.classList.add("residscope");
  document.title ||= payload.name;
  view.render({ model: hostedModel({ data }), el });
} catch (error) {
  el.textContent = `This file cannot be shown. ${error instanceof Error ? error.message : error}`;
}
