import { count, percent } from "../../numbers.ts";
import { CENTRES, UNITS, Word } from "../../views/legend.tsx";
import { componentOf, siteName } from "./address.ts";
import { DirectionPicker } from "./picker.tsx";
import { change, chooseHead, chooseKind, chooseLayer, direction, heads, kinds, layers, picture, wanted } from "./state.ts";

/** What is shown, as a sentence; the marked words change it. */
export function Sentence() {
  const { kind, layer, head, units, centre } = wanted.value;
  const shown = picture.value?.site === siteName(wanted.value) && picture.value.component === componentOf(wanted.value) ? picture.value : null;
  const n = layers.value;
  const nHeads = heads.value;
  return (
    <div class="sentence" role="group" aria-label="What is shown">
      <span>
        Show <Word label="Site" value={kind} options={kinds.value.map((site) => [site.kind, site.kind] as const)} onChange={chooseKind} />
      </span>
      {n !== null && layer !== null && (
        <span>
          at layer <Word label="Layer" value={String(layer)} options={Array.from({ length: n }, (_, i) => [String(i), String(i)] as const)} onChange={(value) => chooseLayer(Number(value))} />
        </span>
      )}
      {nHeads !== null && head !== null && (
        <span>
          of head <Word label="Head" value={String(head)} options={Array.from({ length: nHeads }, (_, i) => [String(i), String(i)] as const)} onChange={(value) => chooseHead(Number(value))} />
        </span>
      )}
      <span>
        along <DirectionPicker />
      </span>
      {shown && (
        <small>
          {percent(shown.sum.share)} of variance, {count(shown.pca.n_tokens)} tokens
        </small>
      )}
      <span>
        centred on <Word label="Centre" value={centre} options={CENTRES} onChange={(value) => change({ centre: value })} />
      </span>
      <span>
        in <Word label="Unit" value={direction.value?.deviation === null ? "stream" : units} options={direction.value?.deviation === null ? UNITS.slice(1) : UNITS} onChange={(value) => change({ units: value })} />
      </span>
    </div>
  );
}
