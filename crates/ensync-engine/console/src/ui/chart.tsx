// A curve of the last hour. What it shows now stands beside it as text, for those who do not see it.

import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";

export interface Series {
    label: string;
    color: "one" | "two" | "three";
    values: (number | null)[];
}

const css = (name: string): string => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

const WHOLE = [1, 2, 5].flatMap((digit) => Array.from({ length: 10 }, (_, power) => digit * 10 ** power)).sort((one, other) => one - other);
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const clockOfSeconds = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });

/** Where a value stands between two gaps, and so on no line: it is drawn as a dot. */
export function aloneIn(values: ArrayLike<number | null | undefined>): number[] {
    const none = (at: number) => values[at] === null || values[at] === undefined;
    return Array.from({ length: values.length }, (_, at) => at).filter((at) => !none(at) && none(at - 1) && none(at + 1));
}

const alone = (plot: uPlot, index: number): number[] => aloneIn(plot.data[index] ?? []);

/** `least`: how much the scale shows at least; `whole`: of what is counted there are no parts. */
export function Chart(props: { title: string; times: number[]; series: Series[]; format: (value: number) => string; least: number; whole?: boolean }) {
    const place = useRef<HTMLDivElement>(null);
    const plot = useRef<uPlot>();
    const shown = useRef(props);
    shown.current = props;
    useEffect(() => {
        const make = () => {
            plot.current?.destroy();
            const element = place.current;
            if (!element) return;
            const { series, times, least, whole } = shown.current;
            const axis = { stroke: css("--text-soft"), grid: { stroke: css("--line"), width: 1 }, ticks: { show: false }, font: `12px ${css("--font")}` };
            plot.current = new uPlot(
                {
                    width: element.clientWidth,
                    height: 168,
                    legend: { show: false },
                    cursor: { show: false },
                    padding: [8, 24, 0, 0],
                    scales: { x: { time: true }, y: { range: (_, __, max) => [0, Math.max((max ?? 0) * 1.1, least)] } },
                    axes: [
                        { ...axis, space: 80, size: 32, values: (_, splits, __, ___, step) => splits.map((at) => (step < 60 ? clockOfSeconds : clock).format(at * 1_000)) },
                        { ...axis, size: (_, values) => Math.max(62, 16 + 7 * Math.max(0, ...(values ?? []).map((value) => value.length))), ...(whole ? { incrs: WHOLE } : {}), values: (_, splits) => splits.map((value) => shown.current.format(value)) },
                    ],
                    series: [{}, ...series.map((one) => ({ label: one.label, stroke: css(`--chart-${one.color}`), width: 2, points: { show: true, size: 5, fill: css(`--chart-${one.color}`), filter: alone }, spanGaps: false }))],
                },
                [times, ...series.map((one) => one.values)] as uPlot.AlignedData,
                element,
            );
        };
        make();
        const resized = new ResizeObserver(() => {
            const width = place.current?.clientWidth;
            if (width) plot.current?.setSize({ width, height: 168 });
        });
        if (place.current) resized.observe(place.current);
        const scheme = matchMedia("(prefers-color-scheme: dark)");
        scheme.addEventListener("change", make);
        return () => {
            scheme.removeEventListener("change", make);
            resized.disconnect();
            plot.current?.destroy();
            plot.current = undefined;
        };
    }, []);
    useEffect(() => {
        plot.current?.setData([props.times, ...props.series.map((one) => one.values)] as uPlot.AlignedData);
    }, [props.times, props.series]);
    return (
        <figure class="chart">
            <figcaption>
                <span class="chart-title">{props.title}</span>
                <span class="legend">
                    {props.series.map((one) => {
                        const last = one.values.at(-1);
                        return (
                            <span>
                                <i class={`swatch ${one.color}`} aria-hidden="true" />
                                {one.label} <b>{last === null || last === undefined ? "–" : props.format(last)}</b>
                            </span>
                        );
                    })}
                </span>
            </figcaption>
            <div ref={place} class="plot" aria-hidden="true" />
        </figure>
    );
}
