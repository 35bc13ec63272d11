"""How branches hang on the pyramid and on one another. `edges` restricts a study's graph to a site's tasks, `exchange`
holds the units of interactions, `flow` runs the graph. Parameters that belong to several tasks at once are the flow's
own and carry the prefix `interaction.`; everything else belongs to a branch."""
