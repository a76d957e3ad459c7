// The views of results, by the names that results give them. A new view is a new line here.

import type { View } from "../host.ts";
import attention from "./attention.tsx";
import attribution from "./attribution.tsx";
import colouredText from "./coloured_text.tsx";
import evaluation from "./evaluation.tsx";
import feature from "./feature.tsx";
import featureLife from "./feature_life.tsx";
import graph from "./graph.tsx";
import headMosaic from "./head_mosaic.tsx";
import heads from "./heads.tsx";
import intervention from "./intervention.tsx";
import logitLens from "./logit_lens.tsx";
import patching from "./patching.tsx";
import river from "./river.tsx";
import vocabulary from "./vocabulary.tsx";
import ablation from "./ablation.tsx";
import causalCheck from "./causal_check.tsx";
import comparison from "./comparison.tsx";
import composition from "./composition.tsx";
import explanation from "./explanation.tsx";
import nextTokens from "./next_tokens.tsx";
import steering from "./steering.tsx";
import singularVectors from "./singular_vectors.tsx";

export const VIEWS: Record<string, View> = {
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
  evaluation,
  feature,
  feature_life: featureLife,
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
