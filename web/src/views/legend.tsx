import { rounded, within } from "../numbers.ts";
import { type Centre, type Payload, type Scale, type Units, unitName } from "./reading.ts";

interface WordProps<T extends string> {
  label: string; // the control's name, for who does not see the sentence
  value: T;
  options: readonly (readonly [T, string])[];
  onChange: (value: T) => void;
}

/** A word of a sentence that can be changed. */
export function Word<T extends string>({ label, value, options, onChange }: WordProps<T>) {
  return (
    <label class="word">
      {options.find(([option]) => option === value)?.[1] ?? value}
      <select aria-label={label} value={value} onChange={({ currentTarget }) => onChange(currentTarget.value as T)}>
        {options.map(([option, text]) => (
          <option key={option} value={option}>
            {text}
          </option>
        ))}
      </select>
    </label>
  );
}

export const CENTRES: readonly (readonly [Centre, string])[] = [
  ["mean", "its mean"],
  ["none", "nothing"],
  ["position", "the mean of each position"],
];
export const UNITS: readonly (readonly [Units, string])[] = [
  ["sd", "standard deviations"],
  ["stream", "units of the stream"],
];

export interface RangeProps {
  limit: number; // of the range, or the largest of the ranges
  signed: boolean; // around zero, or from zero on
  zero?: number; // the value that has no colour, where it is another
  unit: string;
  scale: Scale;
  each: string | null; // what may have a range of its own: "text", "score"; null where there is but one
  onScale: (scale: Scale) => void;
}

/** Numbers at the ends of the colours. */
export function endsOf({ limit, signed, zero = 0, unit }: Pick<RangeProps, "limit" | "signed" | "zero" | "unit">): [low: string, high: string] {
  const end = zero ? within(zero + limit, limit) : `${signed ? "+" : ""}${rounded(limit)}`;
  return [!signed ? "0" : zero ? within(zero - limit, limit) : `−${rounded(limit)}`, `${end} ${unit}`.trim()];
}

/** What lies within a range, in words. */
export const rangeWords = ({ scale: { mode }, each }: Pick<RangeProps, "scale" | "each">): string =>
  mode === "fixed" ? "fixed range" : mode === "text" ? `range per ${each}` : each ? "shared range" : "99% within, the rest as the ends";

/** Numbers at the ends of the colours, and their unit; a click changes the range. */
export function Range({ onScale, ...range }: RangeProps) {
  const { limit, signed, unit, scale, each } = range;
  const modes: [Scale["mode"], string][] = [
    ["shared", each ? `99% of all ${each}s shown` : "99% of what is shown"],
    ["text", `each ${each} its own`],
    ["fixed", "a fixed number"],
  ];
  const choose = (mode: string): void => onScale(mode === "fixed" ? { mode, limit: Number(limit.toPrecision(2)) } : { mode: mode as "shared" | "text" });
  const [low, high] = endsOf(range);
  return (
    <>
      <label class="word range" title="Change the range of colours; what lies beyond it has the colour of its end">
        {low}
        <i class={signed ? "" : "unsigned"} />
        {high} <u>{rangeWords(range)}</u>
        <select aria-label={`Range of colours, now ${rounded(limit)} ${unit}${signed ? " on each side" : ""}`} value={scale.mode} onChange={({ currentTarget }) => choose(currentTarget.value)}>
          {modes.filter(([mode]) => each || mode !== "text").map(([mode, text]) => (
            <option key={mode} value={mode}>
              {text}
            </option>
          ))}
        </select>
      </label>
      {scale.mode === "fixed" && (
        <input
          type="number"
          aria-label="End of the range"
          min="0"
          step="any"
          value={scale.limit}
          onChange={({ currentTarget: { valueAsNumber } }) => valueAsNumber > 0 && onScale({ mode: "fixed", limit: valueAsNumber })}
        />
      )}
      {scale.mode === "text" && <span>each {each} has its own range; these are the widest ends</span>}
    </>
  );
}

interface LegendProps extends Omit<RangeProps, "signed" | "unit" | "each"> {
  units: Units;
  leftOut: readonly number[];
  several: boolean; // texts, each of which may have a range of its own
}

/** The range of projections, and what is left out of it. */
export function Legend({ units, leftOut, several, ...range }: LegendProps) {
  return (
    <div class="legend">
      <Range {...range} signed unit={unitName(units)} each={several ? "text" : null} />
      {leftOut.length > 0 && (
        <span>
          position{leftOut.length > 1 && "s"} {leftOut.join(", ")} left out
        </span>
      )}
    </div>
  );
}

interface HeaderProps extends LegendProps {
  payload: Payload;
  centre: Centre;
  onCentre: (centre: Centre) => void;
  onUnits: (units: Units) => void;
}

/** What a view says of itself where no page says it: its name, centre, unit and legend. */
export function Header({ payload, centre, onCentre, onUnits, ...legend }: HeaderProps) {
  return (
    <>
      <strong>{payload.name}</strong>
      {payload.centred && (
        <span>
          centred on <Word label="Centre" value={centre} options={CENTRES.filter(([one]) => one !== "position" || payload.by_position)} onChange={onCentre} />
        </span>
      )}
      {payload.deviation !== null && (
        <span>
          in <Word label="Unit" value={legend.units} options={UNITS} onChange={onUnits} />
        </span>
      )}
      <Legend {...legend} />
    </>
  );
}
