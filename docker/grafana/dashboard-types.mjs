// Writes the dashboards as TypeScript that compiles only if they fit the types that Grafana publishes (@grafana/schema).
// Usage: node dashboard-types.mjs FOLDER OUTPUT.ts
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const raw = "./node_modules/@grafana/schema/dist/types/raw/composable";
// Grafana's types use enums, the files hold their values: `Plain` turns every enum into the texts it stands for.
const lines = [
  `import type { Dashboard } from "@grafana/schema";`,
  `import type { Options, FieldConfig } from "${raw}/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen";`,
  `import type { ElasticsearchDataQuery } from "${raw}/elasticsearch/dataquery/x/ElasticsearchDataQuery_types.gen";`,
  "type Plain<T> = T extends string ? `${T}` : T extends number | boolean | null | undefined ? T",
  "  : T extends (infer U)[] ? Plain<U>[] : T extends object ? { [K in keyof T]: Plain<T[K]> } : T;",
];
const declare = (type, value) => lines.push(`export const v${lines.length}: Plain<${type}> = ${JSON.stringify(value)};`);

const [folder, output] = process.argv.slice(2);
for (const file of readdirSync(folder).filter((name) => name.endsWith(".json")).sort()) {
  const dashboard = JSON.parse(readFileSync(join(folder, file), "utf8"));
  lines.push(`// ${file}`);
  declare("Dashboard", dashboard);
  for (const panel of dashboard.panels) {
    for (const target of panel.targets ?? []) declare("ElasticsearchDataQuery", target);
    if (panel.type !== "timeseries") continue;
    declare("Options", panel.options);
    declare("FieldConfig", panel.fieldConfig.defaults.custom);
  }
}
writeFileSync(output, lines.join("\n") + "\n");
